"""The jobs as the server builds them, on stand-ins for the backends and a store of the test's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ml_platform.v1.deployments_pb2 import FeaturePolicy
from ml_platform_server.backends.airflow.links import Links as AirflowLinks
from ml_platform_server.backends.mlflow.links import Links as MlflowLinks
from ml_platform_server.jobs.deployments import Deployments
from ml_platform_server.jobs.jobs import Jobs
from ml_platform_server.jobs.ports import PolicyCheck
from ml_platform_server.jobs.reconciler import Reconciler
from ml_platform_server.settings import AirflowSettings, JobSettings, MlflowSettings
from ml_platform_server.store.database import Database
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.jobs import JobRecords
from tests.support.jobs import FakeClock, FakePipelines, FakeRegistry, FakeTracking

AIRFLOW = AirflowSettings(training_pipeline="default_training")


async def _any_policy(model_name: str, version: int, policy: FeaturePolicy) -> None:
    """Every policy is fine."""


@dataclass
class House:
    """Everything between the services and the backends, with stand-ins for the backends."""

    database: Database
    clock: FakeClock = field(default_factory=FakeClock)
    pipelines: FakePipelines = field(default_factory=FakePipelines)
    tracking: FakeTracking = field(default_factory=FakeTracking)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    generations_followed: list[int] = field(default_factory=list)
    check_policy: PolicyCheck = _any_policy
    deployment_pipeline: str = AIRFLOW.deployment_pipeline
    airflow_url: str = AIRFLOW.api_url

    def __post_init__(self) -> None:
        self.job_records = JobRecords(database=self.database)
        self.records = DeploymentRecords(database=self.database)
        settings = AIRFLOW.model_copy(update={"deployment_pipeline": self.deployment_pipeline, "api_url": self.airflow_url})
        self.jobs = Jobs(
            records=self.job_records,
            pipelines=self.pipelines,
            tracking=self.tracking,
            clock=self.clock,
            run_page=AirflowLinks(settings).run,
        )
        parts: dict[str, Any] = {"records": self.records, "jobs": self.jobs, "registry": self.registry, "clock": self.clock}
        self.deployments = Deployments(
            **parts, check_policy=self.check_policy, settings=settings, version_page=MlflowLinks(MlflowSettings()).version
        )
        self.reconciler = Reconciler(**parts, settings=JobSettings(), on_activated=self._follow)

    async def _follow(self) -> None:
        self.generations_followed.append(await self.records.generation())
