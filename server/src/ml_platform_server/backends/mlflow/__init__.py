"""The door to MLflow: experiments, runs and the model registry."""
