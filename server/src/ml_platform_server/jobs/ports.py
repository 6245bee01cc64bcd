"""What the jobs need of the backends, as narrow as they need it, so that tests can stand in for each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from ml_platform.v1.deployments_pb2 import FeaturePolicy
from ml_platform.v1.experiments_pb2 import Experiment, Run
from ml_platform.v1.features_pb2 import FeatureView
from ml_platform.v1.models_pb2 import ModelVersion
from ml_platform_server.backends.airflow.pipelines import PipelineRun
from ml_platform_server.backends.mlflow.artifacts import ModelDetails


class PipelineEngine(Protocol):
    """Starts runs of pipelines and reads their state."""

    async def trigger(self, pipeline: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run; harmless if the same run was started before."""

    async def state(self, pipeline: str, run_id: str) -> PipelineRun | None:
        """How a run stands, or None if there is none."""

    async def undeclared(self, pipeline: str, names: Collection[str]) -> list[str]:
        """The parameters that a pipeline does not declare though it declares others; INVALID_FIELDS for misspelt ones."""

    async def end(self, pipeline: str, run_id: str, why: str) -> None:
        """End a run as failed; harmless if it has ended."""


class Tracking(Protocol):
    """Knows experiments and the runs in them."""

    async def get(self, *, experiment_id: str = "", name: str = "") -> Experiment:
        """One experiment; EXPERIMENT_NOT_FOUND."""

    async def runs_of_job(self, job_id: str, experiment_name: str = "", *, everywhere: bool = True) -> list[Run]:
        """The runs that a job made, newest first; of its own experiment alone, if that has some and not all are wanted."""

    async def runs_with_models(self, runs: Sequence[Run]) -> set[str]:
        """The ids of those runs that logged a model."""


class Registry(Protocol):
    """Knows registered models."""

    async def details(self, model_name: str, version: int, *, fresh: bool = False) -> ModelDetails:
        """What a version's files say about it. Raises MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND, MODEL_ARTIFACT_MISSING."""

    async def get_version(self, model_name: str, version: int) -> ModelVersion:
        """One version as the registry describes it; MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND."""

    async def set_alias(self, model_name: str, alias: str, version: int) -> None:
        """Point an alias to a version."""


class PolicyCheck(Protocol):
    """Knows what a model takes, and which of it features supply."""

    async def __call__(self, model_name: str, version: int, policy: FeaturePolicy) -> None:
        """Check a policy for a version that exists; FEATURE_POLICY_INVALID."""


class Views(Protocol):
    """Knows feature views."""

    async def get(self, name: str) -> FeatureView:
        """One view; FEATURE_VIEW_NOT_FOUND."""
