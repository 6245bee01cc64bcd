"""Deployments: which version answers in which environment, since when, who decided it and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ml_platform.errors import invalid
from ml_platform.records import Record
from ml_platform.resources.policies import FeaturePolicy, read_policy
from ml_platform.v1 import deployments_pb2
from ml_platform.v1.deployments_pb2 import DeploymentState
from ml_platform.values import choice, enum_name, to_datetime

_STATES: dict[str, DeploymentState.ValueType] = {
    "in_progress": deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
    "active": deployments_pb2.DEPLOYMENT_STATE_ACTIVE,
    "failed": deployments_pb2.DEPLOYMENT_STATE_FAILED,
    "archived": deployments_pb2.DEPLOYMENT_STATE_ARCHIVED,
}


@dataclass(frozen=True, slots=True, repr=False)
class Deployment(Record):
    """One version put, or meant to be put, into one environment.

    `state` is "in_progress", "active", "failed" or "archived". `status` is the same, except that it is "deployment_initiated" in
    what `deploy_model` returns without waiting. `runtime` is "onnx" or "bentoml", or empty while that is not decided.
    `feature_policy` tells what its predictions do about features that are missing or stale. `url` is the deployed version's page
    in MLflow.
    """

    deployment_id: str
    model_name: str
    version: int
    environment: str
    status: str
    state: str
    message: str
    actor: str
    reason: str
    job_id: str
    runtime: str
    create_time: datetime | None
    activate_time: datetime | None
    end_time: datetime | None
    previous_deployment_id: str
    feature_policy: FeaturePolicy
    url: str = ""

    @property
    def in_progress(self) -> bool:
        """Whether the deployment is still being checked."""
        return self.state == "in_progress"


def to_environment(name: str) -> str:
    """The environment of a name, in any case. Which there are is the server's to say."""
    if not isinstance(name, str) or not name.strip():
        raise invalid("environment", f"{name!r} is not an environment's name, such as 'staging' or 'production'")
    return name.strip().lower()


def to_state(name: str) -> DeploymentState.ValueType:
    """The deployment state of a name, in any case."""
    return choice(name, _STATES, "state")


def read_deployment(message: deployments_pb2.Deployment, *, status: str = "") -> Deployment:
    """Make a deployment of its message."""
    state = enum_name(DeploymentState.Name, message.state, "DEPLOYMENT_STATE_")
    return Deployment(
        deployment_id=message.deployment_id,
        model_name=message.model_name,
        version=message.version,
        environment=message.environment,
        status=status or state,
        state=state,
        message=message.message,
        actor=message.actor,
        reason=message.reason,
        job_id=message.job_id,
        runtime=enum_name(deployments_pb2.ServingRuntime.Name, message.runtime, "SERVING_RUNTIME_") if message.runtime else "",
        create_time=to_datetime(message, "create_time"),
        activate_time=to_datetime(message, "activate_time"),
        end_time=to_datetime(message, "end_time"),
        previous_deployment_id=message.previous_deployment_id,
        feature_policy=read_policy(message.feature_policy),
        url=message.url,
    )
