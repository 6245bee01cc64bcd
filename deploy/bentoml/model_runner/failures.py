"""What can go wrong, in the words that the platform's server understands."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818  # it is an answer to the caller, not a fault of this program
    """A request that cannot be answered: a reason for programs, a sentence for people, a status for HTTP."""

    reason = ""
    status = 500


class ArtifactMissing(Failure):
    """The version or its files are gone."""

    reason = "MODEL_ARTIFACT_MISSING"
    status = 404


class ModelFailed(Failure):
    """The model does not load, or fails on these rows."""

    reason = "MODEL_FAILED"
    status = 422


class RegistryUnavailable(Failure):
    """MLflow does not answer."""

    reason = "REGISTRY_UNAVAILABLE"
    status = 503
