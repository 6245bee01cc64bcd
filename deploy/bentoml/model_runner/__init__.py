"""Loads MLflow models, turns JSON into what they take and what they give into JSON."""
