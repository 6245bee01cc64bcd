"""PredictionService on a real server and a real engine with ONNX models, on stand-ins for what surrounds the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_platform.v1 import predictions_pb2, predictions_pb2_grpc
from ml_platform_server import open_inference
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.services.open_inference import OpenInferenceService
from ml_platform_server.services.predictions import PredictionService
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.rpc.batch_rows import Batches
from ml_platform_server.serving.rpc.in_flight import InFlight
from ml_platform_server.serving.rpc.stream import Predict, PredictionStreams
from ml_platform_server.settings import BentomlSettings, ServingSettings
from tests.support.frame import Frame, running_frame
from tests.support.serving import FakeDeployments, FakeFeatures, FakeRegistry, column, save_onnx, sum_graph

SERVICE = predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"]


@dataclass
class House:
    """What surrounds the engine, and once it runs the server and a stub of it."""

    folder: Path
    in_flight: int = 256
    deadline: float = 30.0
    healthy: bool = True
    bentoml: str = "http://127.0.0.1:9"  # where nobody answers
    all_in_flight: InFlight = field(default_factory=InFlight)
    registry: FakeRegistry = field(default_factory=FakeRegistry)
    deployments: FakeDeployments = field(default_factory=FakeDeployments)
    features: FakeFeatures = field(default_factory=FakeFeatures)
    answers: Predict | None = None  # in place of the engine, on a stream
    engine: PredictionEngine = field(init=False)
    streams: PredictionStreams = field(init=False)
    frame: Frame = field(init=False)
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.features.views["users"] = ("total",)
        self.features.keys["users"] = ("user_id",)
        self.features.stored["users", ("u1",)] = {"total": 10.0}

    def deploy(self, *, name: str = "m", version: int = 1, scale: float = 1.0) -> str:
        """Deploy a version that gives `scale` times the sum of `amount`, which is sent, and `total`, which may be stored."""
        files = save_onnx(self.folder / f"{name}-{version}", sum_graph(2, scale=scale))
        self.registry.add(name, version, [column("amount"), column("total")], files, feature_refs=["users:total"])
        return self.deployments.activate(name, version)

    async def answer(self, request: predictions_pb2.PredictRequest, log_fields: MutableMapping[str, object]) -> bytes:
        """What the streams ask."""
        return await (self.answers or self.engine.predict_encoded)(request, log_fields)


@asynccontextmanager
async def opened(house: House) -> AsyncIterator[House]:
    """Open the house's engine until the block ends."""
    bentoml = BentomlBackend(settings=BentomlSettings(url=house.bentoml, timeout=0.5 if house.bentoml.endswith(":9") else 60))
    house.engine = PredictionEngine(
        settings=ServingSettings(refresh_interval=0.02, model_cache=house.folder / "cache"),
        deployments=house.deployments,
        registry=house.registry,
        features=house.features,
        bentoml=bentoml,
    )
    try:
        async with house.engine:
            yield house
    finally:
        await bentoml.close()


@asynccontextmanager
async def running(house: House) -> AsyncIterator[House]:
    """Serve the house's predictions until the block ends."""
    async with opened(house):
        house.streams = PredictionStreams(
            predict=house.answer, in_flight=house.in_flight, deadline=house.deadline, in_flight_of_all=house.all_in_flight
        )
        batches = Batches(find=house.engine.served, in_flight=house.all_in_flight)
        service = PredictionService(engine=house.engine, batches=batches, streams=house.streams)
        inference = OpenInferenceService(models=house.engine, ready=lambda: house.healthy, in_flight=house.all_in_flight)
        async with running_frame(house.folder, [(SERVICE, service), (open_inference.SERVICE, inference)]) as house.frame:
            house.stub = predictions_pb2_grpc.PredictionServiceStub(house.frame.channel)
            yield house
