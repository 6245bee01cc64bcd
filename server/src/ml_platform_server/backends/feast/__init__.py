"""The door to Feast: feature views, and the online features in them."""

from ml_platform_server.backends.feast import disable_typeguard

# Here, so that it is done before anything imports Feast; MLflow does so too, for a plugin of Feast's.
disable_typeguard.install()
