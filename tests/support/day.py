"""The data scientist's day as fixtures: each step is made once per run, on the real stack, and shared by whoever needs it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from ml_platform import MLPlatform
from tests.support.stack import Stack


@dataclass(frozen=True)
class Trained:
    """A finished training job and everything its watcher saw."""

    job: Any
    events: list[Any]


@dataclass(frozen=True)
class Deployed:
    """A model version that answers in staging."""

    model_name: str
    version: int
    deployment: Any


@pytest.fixture(scope="session")
def platform(stack: Stack) -> Iterator[MLPlatform]:
    """A client of the running stack with every scope."""
    with MLPlatform(api_url=stack.api_url, api_key=stack.api_key) as client:
        yield client


@pytest.fixture(scope="session")
def channel(stack: Stack) -> Iterator[grpc.Channel]:
    """A bare channel to the running server, for tests that speak through the generated stubs."""
    with grpc.insecure_channel(stack.target) as bare:
        yield bare


@pytest.fixture(scope="session")
def experiment(platform: MLPlatform) -> Any:
    """An experiment of this run's own."""
    return platform.create_experiment(name=f"day-{uuid.uuid4().hex[:8]}", tags={"test": "true"})


@pytest.fixture(scope="session")
def trained(platform: MLPlatform, experiment: Any) -> Trained:
    """The fraud model, trained through the platform and watched from start to end."""
    job = platform.train_model(
        experiment_name=experiment.name,
        data_start_date="2024-01-01",
        data_end_date="2024-03-31",
        parameters={"n_estimators": 30},
    )
    events = list(job.watch())
    return Trained(job=platform.get_training_job(job.job_id), events=events)


@pytest.fixture(scope="session")
def registered(platform: MLPlatform, trained: Trained) -> Any:
    """The first version of a model of this run's own."""
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    return platform.register_model(run_id=trained.job.best_run_id, name=name, description="trained in a test")


@pytest.fixture(scope="session")
def deployed(platform: MLPlatform, registered: Any) -> Deployed:
    """That version, in staging."""
    deployment = platform.deploy_model(
        model_name=registered.name, version=registered.version, environment="staging", reason="the day goes on", wait=True
    )
    return Deployed(model_name=registered.name, version=registered.version, deployment=deployment)
