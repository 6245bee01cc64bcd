"""Calls that time out against a real BentoML: their rows do not go on without end, nor keep other models from answering."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_platform.v1 import deployments_pb2
from ml_platform.v1.predictions_pb2 import BatchPredictRequest, PredictRequest
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.call import Call, set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.rpc.batch_rows import Batches
from ml_platform_server.settings import BentomlSettings, MlflowSettings, ServingSettings
from tests.support.bentoml_server import bentoml_server
from tests.support.serving import PRODUCTION, FakeDeployments, FakeFeatures, struct

CALLS = 300
BETWEEN_CALLS = 0.008
PATIENCE = 0.1
RUN = 1.0
# What may run at once for one version: see BentomlSettings.requests_per_version.
CHUNK_ENTITIES = 4


def _log_slow(mlflow: Any, log: Path) -> None:
    class Slow(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            with log.open("a") as file:
                file.write(f"{time.time()} {len(model_input)}\n")
            time.sleep(RUN)
            return np.asarray(model_input["x"])

    example = pd.DataFrame({"x": [1.0]})
    signature = mlflow.models.infer_signature(example, np.array([1.0]))
    for name in ("slow", "other"):
        mlflow.pyfunc.log_model(
            python_model=Slow(), name="m", signature=signature, pip_requirements=["numpy"], registered_model_name=name
        )


@pytest.fixture(scope="module", name="runs_log")
def runs_log_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models write how many rows each of their runs had."""
    return tmp_path_factory.mktemp("runs") / "runs.log"


@pytest.fixture(scope="module", name="tracking_uri")
def tracking_uri_fixture(tmp_path_factory: pytest.TempPathFactory, runs_log: Path) -> Iterator[str]:
    """A registry with two models that take a second."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", artifact_location=(folder / "files").as_uri()))
        with mlflow.start_run():
            _log_slow(mlflow, runs_log)
        yield uri
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module", name="url")
def url_fixture(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bentoml_server(tmp_path_factory.mktemp("bentoml"), tracking_uri) as started:
        yield started


class House:
    """An engine with both models deployed, and what callers do with it."""

    def __init__(self, engine: PredictionEngine, log: Path) -> None:
        self.engine = engine
        self.batches = Batches(find=engine.served)
        self._log = log

    def runs(self, since: float) -> list[int]:
        """The rows of each run that began since then."""
        lines = [line.split() for line in self._log.read_text(encoding="ascii").splitlines()]
        return [int(rows) for began, rows in lines if float(began) >= since]

    async def predict(self, model: str = "slow") -> None:
        """Predict, as Predict does."""
        await self.engine.predict_encoded(PredictRequest(model_name=model, environment=PRODUCTION, inputs=struct({"x": 1.0})), {})

    async def batch(self) -> None:
        """Predict one row, as BatchPredict does."""
        request = BatchPredictRequest(model_name="slow", environment=PRODUCTION, rows=[struct({"x": 1.0})])
        await self.batches.predict(request, Call(method="", context=None))  # type: ignore[arg-type]  # it asks nothing of gRPC

    async def hurried(self, call: Callable[[], Awaitable[None]]) -> bool:
        """Make a call as one that gRPC cancels at its deadline; whether it was too late."""
        set_deadline(time.monotonic() + PATIENCE)
        try:
            await asyncio.wait_for(call(), PATIENCE)
        except TimeoutError:
            return True
        except PlatformError as error:
            return error.reason_name == "DEADLINE_EXCEEDED"
        return False

    async def storm(self, call: Callable[[], Awaitable[None]]) -> int:
        """Make many hurried calls; how many came too late."""
        calls = []
        for _ in range(CALLS):
            calls.append(asyncio.create_task(self.hurried(call)))
            await asyncio.sleep(BETWEEN_CALLS)
        return sum(await asyncio.gather(*calls))


@pytest.fixture
async def house(tracking_uri: str, url: str, runs_log: Path, tmp_path: Path) -> AsyncIterator[House]:
    mlflow = MlflowBackend(settings=MlflowSettings(tracking_uri=tracking_uri, timeout=60))
    await mlflow.open()
    deployments = FakeDeployments()
    for name in ("slow", "other"):
        deployments.activate(name, 1, PRODUCTION, runtime=deployments_pb2.SERVING_RUNTIME_BENTOML)
    async with (
        BentomlBackend(settings=BentomlSettings(url=url, timeout=60)) as bentoml,
        PredictionEngine(
            settings=ServingSettings(model_cache=tmp_path / "cache"),
            deployments=deployments,
            registry=Models(backend=mlflow),
            features=FakeFeatures(),
            bentoml=bentoml,
        ) as engine,
    ):
        made = House(engine, runs_log)
        for name in ("slow", "other"):
            await made.predict(name)  # Loaded, here and there.
        yield made
    await mlflow.close()


@pytest.mark.parametrize("form", ["predict", "batch"])
async def test_calls_that_time_out_do_not_pile_up_runs(house: House, form: str) -> None:
    """Of 300 calls with a tenth of a second, only those run that find a place, and the next caller waits for about one run."""
    began = time.time()
    started = time.monotonic()
    assert await house.storm(getattr(house, form)) == CALLS
    lasted = time.monotonic() - started

    asked = time.monotonic()
    async with asyncio.timeout(60):
        await house.predict()
    waited = time.monotonic() - asked

    runs = house.runs(began)[:-1]
    # However long the storm lasts: each place runs once a second. Without the places, and the drops, all 300 rows run.
    assert len(runs) <= CHUNK_ENTITIES * (lasted / RUN + 1)
    assert sum(runs) < CALLS / 2
    assert waited < 2 * RUN + 2


async def test_a_model_that_is_flooded_leaves_room_for_the_others(house: House) -> None:
    """While the places of one model are taken for rounds ahead, another one answers."""
    flood = [asyncio.create_task(house.batch()) for _ in range(5 * CHUNK_ENTITIES)]
    await asyncio.sleep(0.2)
    async with asyncio.timeout(60):
        await house.predict("other")
    waiting = sum(not batch.done() for batch in flood)
    await asyncio.gather(*flood)
    assert waiting >= CHUNK_ENTITIES
