"""Which version answers: the active deployments, and the models that are loaded for them."""
