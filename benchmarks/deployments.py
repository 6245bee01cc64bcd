"""Moves traffic between versions through the platform's own store, as the end of a deployment job does."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from ml_platform.v1 import deployments_pb2, jobs_pb2
from ml_platform_server.store.database import Database
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.tables import DeploymentRow, JobRow

PRODUCTION = "production"
WHO = "benchmarks"


@asynccontextmanager
async def opened(store_url: str) -> AsyncIterator[Database]:
    """The platform's database."""
    database = Database(url=store_url)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def activate_once(store_url: str, model: str, version: int, *, bentoml: bool) -> None:
    """Let a version answer in production if it does not already."""
    runtime = deployments_pb2.SERVING_RUNTIME_BENTOML if bentoml else deployments_pb2.SERVING_RUNTIME_ONNX
    async with opened(store_url) as database:
        active = await DeploymentRecords(database=database).active(model, PRODUCTION)
        if active is None or (active.version, active.runtime) != (version, runtime):
            await activate(database, model, version, runtime)


async def activate(database: Database, model: str, version: int, runtime: int) -> None:
    """Deploy a version: a job, a deployment in progress, and the move of the traffic, which counts the generation up."""
    now = datetime.now(UTC)
    job_id, records = f"bench-{uuid.uuid4()}", DeploymentRecords(database=database)
    await JobRecords(database=database).add(
        JobRow(
            job_id=job_id,
            kind=jobs_pb2.JOB_KIND_DEPLOYMENT,
            pipeline="model_deployment",
            state=jobs_pb2.JOB_STATE_SUCCESS,
            conf={},
            submitted_by=WHO,
            create_time=now,
            end_time=now,
        )
    )
    row = DeploymentRow(
        deployment_id=f"dep-{uuid.uuid4()}",
        model_name=model,
        version=version,
        environment=PRODUCTION,
        state=deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
        actor=WHO,
        job_id=job_id,
        runtime=runtime,
        create_time=now,
    )
    await records.begin(row)
    await records.activate(row.deployment_id)
