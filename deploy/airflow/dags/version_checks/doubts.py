"""What the checks could not find out about a version, kept as a tag of the version, for the platform's server to show."""

from __future__ import annotations

from version_checks.loading import prepare_mlflow

TAG = "ml_platform.check.doubt"
LONGEST = 500


def keep(name: str, version: int, doubt: str) -> None:
    """Record the doubt of these checks, or that there is none any more."""
    prepare_mlflow()
    import mlflow

    client = mlflow.MlflowClient()
    if doubt or client.get_model_version(name, str(version)).tags.get(TAG):
        client.set_model_version_tag(name, str(version), TAG, " ".join(doubt.split())[:LONGEST])
