"""A version that nothing serves any more leaves no memory behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml_platform.v1 import predictions_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.observability.recorders import PredictionMetrics
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.settings import BentomlSettings, ServingSettings
from tests.support.serving import PRODUCTION, FakeDeployments, FakeFeatures, FakeRegistry, column, save_onnx, struct

REDEPLOYS = 200
# What one version weighs. Kept versions would be ten times what the test allows.
MEGABYTES = 2
ALLOWED_MEGABYTES = 40


def heavy_graph() -> onnx.ModelProto:
    """A graph that gives the sum of two numbers and carries some megabytes along."""
    ballast = numpy_helper.from_array(np.random.default_rng(0).random(MEGABYTES * 2**18, np.float32).reshape(1, -1), "ballast")
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=1, axes=[1]),
        helper.make_node("ReduceMin", ["ballast"], ["least"], keepdims=1, axes=[1]),
        helper.make_node("Mul", ["least", "nothing"], ["zero"]),
        helper.make_node("Add", ["s", "zero"], ["total"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, [None, 1])],
        [ballast, helper.make_tensor("nothing", TensorProto.FLOAT, [1], [0.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


class House:
    """An engine whose one model is deployed over and over."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry()
        self.deployments = FakeDeployments()
        self.metrics = PredictionMetrics()
        self.files = save_onnx(folder / "files", heavy_graph())
        features = FakeFeatures(
            views={"users": ("total",)}, keys={"users": ("user_id",)}, stored={("users", ("u1",)): {"total": 2.0}}
        )
        self.bentoml = BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9"))
        self.engine = PredictionEngine(
            settings=ServingSettings(refresh_interval=3600, model_cache=folder / "cache"),
            deployments=self.deployments,
            registry=self.registry,
            features=features,
            bentoml=self.bentoml,
            metrics=self.metrics,
        )

    async def deploy(self, version: int) -> None:
        """Deploy a version that is registered on the way, and have it answer calls alone and together."""
        self.registry.add("m", version, [column("amount"), column("total")], self.files, feature_refs=["users:total"])
        self.deployments.activate("m", version)
        await self.engine.refresh()
        for together in (1, 3, 40):
            await asyncio.gather(*(self.ask() for _ in range(together)))

    async def ask(self) -> None:
        """One prediction."""
        request = predictions_pb2.PredictRequest(
            model_name="m", environment=PRODUCTION, inputs=struct({"amount": 1.0, "user_id": "u1"})
        )
        response = predictions_pb2.PredictResponse.FromString(await self.engine.predict_encoded(request, {}))
        assert response.prediction.number_value == 3.0

    async def parts(self) -> dict[str, weakref.ref[Any]]:
        """What a served version consists of."""
        served = await self.engine.served("m", PRODUCTION)
        model = served.model
        runtime: Any = model.runtime
        found = {"model": model, "runtime": runtime, "enrichment": model.enrichment, "metrics": model.metrics}
        return {name: weakref.ref(part) for name, part in found.items()}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    async with made.engine:
        yield made
    await made.bentoml.close()


@pytest.fixture
def _no_collector() -> Iterator[None]:
    """As for what was loaded before the collector froze: it frees nothing."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
async def test_a_replaced_version_is_freed_without_the_collector(house: House) -> None:
    """Everything that a version consists of goes with the last call that needs it, its handle for metrics included."""
    await house.deploy(1)
    first = await house.parts()
    await house.deploy(2)
    await asyncio.sleep(0)
    assert {name: part() for name, part in first.items()} == dict.fromkeys(first)


@pytest.mark.usefixtures("_no_collector")
async def test_memory_stays_flat_over_many_deployments(house: House) -> None:
    """After 200 redeploys only the last version is in memory."""
    kept: list[weakref.ref[Any]] = []
    for version in range(1, 11):
        await house.deploy(version)
    before = _megabytes()
    for version in range(11, 11 + REDEPLOYS):
        await house.deploy(version)
        kept.append((await house.parts())["model"])
    await asyncio.sleep(0)
    assert sum(model() is not None for model in kept) == 1
    assert _megabytes() - before < ALLOWED_MEGABYTES


def _megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 2**20
