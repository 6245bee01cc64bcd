"""Looks for models that the deployment pipeline converts although their graphs answer otherwise than they do."""
