"""Where a model comes from: the features and the job that its run recorded, kept with each version as tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.mlflow.messages import JOB_ID
from ml_platform_server.errors import invalid

# The names that Feast's own MLflow integration gives to the tags of a run.
FEATURE_SERVICE = "feast.feature_service"
FEATURE_REFS = "feast.feature_refs"
# How Feast ends a list that did not fit into a tag. The run keeps the whole list nowhere else.
CUT = "..."


@dataclass(frozen=True, slots=True)
class Lineage:
    """The features that a model was trained on, and the job that trained it. What is not known is empty."""

    feature_service: str = ""
    feature_refs: tuple[str, ...] = ()
    job_id: str = ""

    def tags(self) -> dict[str, str]:
        """As tags of a model version."""
        tags = {FEATURE_SERVICE: self.feature_service, FEATURE_REFS: ",".join(self.feature_refs), JOB_ID: self.job_id}
        return {key: value for key, value in tags.items() if value}


def read(tags: Mapping[str, str]) -> Lineage:
    """The lineage that a version's tags tell."""
    return Lineage(
        feature_service=tags.get(FEATURE_SERVICE, ""),
        feature_refs=tuple(ref for ref in tags.get(FEATURE_REFS, "").split(",") if ref),
        job_id=tags.get(JOB_ID, ""),
    )


def of_version(request: models_pb2.RegisterModelRequest, run_tags: Mapping[str, str]) -> Lineage:
    """The lineage of a version to be: what the request says of the features wins over what the run recorded.

    Raises:
        PlatformError: INVALID_FIELDS if the run's record of its features was cut and the request does not make up for it.
    """
    job_id = run_tags.get(JOB_ID, "")
    if request.feature_service or request.feature_refs:
        return Lineage(request.feature_service, tuple(request.feature_refs), job_id)
    service, refs = run_tags.get(FEATURE_SERVICE, ""), run_tags.get(FEATURE_REFS, "")
    if not refs.endswith(CUT):
        return read({FEATURE_SERVICE: service, FEATURE_REFS: refs, JOB_ID: job_id})
    if not service:
        raise invalid(
            "feature_refs", "the run used more features than its record holds, so name the feature service or the features"
        )
    return Lineage(feature_service=service, job_id=job_id)
