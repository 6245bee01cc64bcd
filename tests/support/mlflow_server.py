"""A real MLflow server on SQLite that hands artifacts through, and runs to look at in it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from ml_platform.v1.experiments_pb2 import CreateExperimentRequest
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.settings import MlflowSettings
from tests.support.processes import free_port, running

# Tests share their machine with whatever else runs on it.
PATIENCE = 60.0
_numbers = count()


def fresh_name() -> str:
    """A name that no other test uses."""
    return f"test {next(_numbers)}"


@dataclass(frozen=True)
class MlflowServer:
    """Where a server is, and the folder that it keeps artifacts in."""

    uri: str
    artifacts: Path

    def client(self) -> Any:
        """MLflow's own client, for what a pipeline would do."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri)


@pytest.fixture(scope="session", name="mlflow_server")
def mlflow_server_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One server for all tests; it takes half a minute to start."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    uri, artifacts = f"http://127.0.0.1:{port}", folder / "artifacts"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--serve-artifacts", "--artifacts-destination", str(artifacts)),
    ]
    with running(command, log=folder / "mlflow.log", ready=lambda: _answers(uri)):
        server = MlflowServer(uri, artifacts)
        server.client().search_experiments()  # So that neither its first query nor the library's import is on a test's time.
        yield server


@pytest.fixture(name="mlflow_backend")
async def mlflow_backend_fixture(mlflow_server: MlflowServer) -> AsyncIterator[MlflowBackend]:
    """The door to it."""
    backend = MlflowBackend(settings=MlflowSettings(tracking_uri=mlflow_server.uri, timeout=PATIENCE))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture(name="experiments")
def experiments_fixture(mlflow_backend: MlflowBackend) -> Experiments:
    """Experiments in it."""
    return Experiments(backend=mlflow_backend)


@pytest.fixture(name="models")
def models_fixture(mlflow_backend: MlflowBackend) -> Models:
    """Models in it."""
    return Models(backend=mlflow_backend)


@pytest.fixture(name="experiment_id")
async def experiment_id_fixture(experiments: Experiments) -> str:
    """An empty experiment."""
    return (await experiments.create(CreateExperimentRequest(name=fresh_name()))).experiment_id


@pytest.fixture(scope="session", name="run_with_model")
def run_with_model_fixture(mlflow_server: MlflowServer) -> str:
    """A run of a job that used features and logged one model."""
    tags = {"ml_platform.job_id": "job-1", "feast.feature_service": "fraud", "feast.feature_refs": "user:total,user:average"}
    return log_models(mlflow_server.uri, mlflow_server.client().create_experiment(fresh_name()), "model", tags=tags)


def log_models(uri: str, experiment_id: str, *names: str, tags: dict[str, str] | None = None, signed: bool = True) -> str:
    """A run that logs a model under each of the names, as a pipeline would; returns its id."""
    import mlflow
    import pandas as pd

    table = pd.DataFrame({"amount": [1.5], "count": [2]})
    signature = mlflow.models.infer_signature(table, pd.Series([3.5])) if signed else None
    mlflow.set_tracking_uri(uri)
    with mlflow.start_run(experiment_id=experiment_id, tags=tags) as run:
        for name in names:
            mlflow.pyfunc.log_model(python_model=_total, name=name, signature=signature, pip_requirements=["numpy"])
    run_id: str = run.info.run_id
    return run_id


def _total(model_input: Any) -> Any:
    return model_input.sum(axis=1)


def _answers(uri: str) -> bool:
    try:
        return httpx.get(f"{uri}/health", timeout=2.0).is_success
    except httpx.TransportError:
        return False
