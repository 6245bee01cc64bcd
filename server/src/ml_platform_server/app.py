"""The composition root: the only place that knows everybody. Whoever is opened here is closed here, in the opposite order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from grpc_health.v1 import health

from ml_platform.v1 import (
    deployments_pb2,
    experiments_pb2,
    features_pb2,
    models_pb2,
    platform_pb2,
    predictions_pb2,
    training_pb2,
)
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.pipelines import Pipelines
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.views import FeatureViews
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.errors import PlatformError
from ml_platform_server.grpc_server import GrpcServer, StartError
from ml_platform_server.jobs.clock import SystemClock
from ml_platform_server.jobs.deployments import Deployments
from ml_platform_server.jobs.hub import WatchHub
from ml_platform_server.jobs.jobs import Jobs
from ml_platform_server.jobs.materialization import Materialization
from ml_platform_server.jobs.reconciler import Reconciler
from ml_platform_server.jobs.training import Training
from ml_platform_server.services.deployments import DeploymentService
from ml_platform_server.services.experiments import ExperimentService
from ml_platform_server.services.features import FeatureService
from ml_platform_server.services.health import Probed, Prober
from ml_platform_server.services.models import ModelService
from ml_platform_server.services.platform import PlatformService
from ml_platform_server.services.predictions import PredictionService
from ml_platform_server.services.training import TrainingService
from ml_platform_server.serving.batches import Batches
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.streams import PredictionStreams
from ml_platform_server.settings import Settings
from ml_platform_server.store.database import Database
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.done_calls import DoneCalls
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.keys import ApiKeys

EXPERIMENTS = experiments_pb2.DESCRIPTOR.services_by_name["ExperimentService"]
MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
DEPLOYMENTS = deployments_pb2.DESCRIPTOR.services_by_name["DeploymentService"]
TRAINING = training_pb2.DESCRIPTOR.services_by_name["TrainingService"]
FEATURES = features_pb2.DESCRIPTOR.services_by_name["FeatureService"]
PREDICTIONS = predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"]
PLATFORM = platform_pb2.DESCRIPTOR.services_by_name["PlatformService"]

# The backends without which a service cannot serve; "" is the server as a whole.
NEEDS = {
    EXPERIMENTS.full_name: ["mlflow"],
    MODELS.full_name: ["mlflow"],
    DEPLOYMENTS.full_name: ["mlflow", "airflow"],
    TRAINING.full_name: ["airflow"],
    FEATURES.full_name: ["feast"],
    PREDICTIONS.full_name: ["feast"],
    PLATFORM.full_name: ["store"],
    "": ["store"],
}


class _Openable(Protocol):
    async def open(self) -> None: ...

    async def close(self) -> None: ...


T = TypeVar("T", bound=_Openable)


@dataclass(frozen=True)
class _Store:
    database: Database
    keys: ApiKeys
    calls: DoneCalls
    jobs: JobRecords
    deployments: DeploymentRecords


@dataclass(frozen=True)
class _Backends:
    mlflow: MlflowBackend
    feast: FeastBackend
    airflow: AirflowBackend
    bentoml: BentomlBackend


class Server:
    """The running server.

    Attributes:
        port: where it listens.
    """

    def __init__(
        self, *, grpc_server: GrpcServer, prober: Prober, hub: WatchHub, streams: PredictionStreams, drain: float
    ) -> None:
        self._grpc_server = grpc_server
        self._prober = prober
        self._hub = hub
        self._streams = streams
        self._drain = drain
        self.port = grpc_server.port

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._grpc_server.wait()

    async def drain(self) -> None:
        """Say NOT_SERVING, send watchers away, let calls end, and stop."""
        await self._prober.close()
        await self._hub.close()
        self._streams.close()
        await self._grpc_server.stop(self._drain)


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Server]:
    """Build the server from its settings and serve, until the block ends. Backends that are down keep nobody from serving.

    Raises:
        StartError: the server cannot start as it is configured.
    """
    async with AsyncExitStack() as stack:
        builder = _Builder(settings, stack)
        # First of all, so that a port that is taken is told before the vendors' libraries are loaded.
        grpc_server = await builder.grpc_server()
        store = await builder.store()
        backends = await builder.backends()
        yield await builder.server(grpc_server, store, backends)


class _Builder:
    """Makes the parts from the settings, each from those made before it."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self._settings = settings
        self._stack = stack

    async def grpc_server(self) -> GrpcServer:
        return await self._open(GrpcServer(settings=self._settings.server))

    async def store(self) -> _Store:
        pepper = self._settings.store.key_pepper.get_secret_value()
        if not pepper:
            raise StartError(
                "ML_PLATFORM_STORE__KEY_PEPPER is not set; API keys are hashed with it. Set it to a long random text."
            )
        database = await self._open(Database(url=self._settings.store.url))
        try:
            await database.migrate()
        except PlatformError as error:
            raise StartError(f"{error.message} ML_PLATFORM_STORE__URL says where it is.") from None
        return _Store(
            database=database,
            keys=ApiKeys(database=database, pepper=pepper),
            calls=await self._open(DoneCalls(database=database)),
            jobs=JobRecords(database=database),
            deployments=DeploymentRecords(database=database),
        )

    async def backends(self) -> _Backends:
        """All at once: each loads its vendor's library, which takes seconds."""
        mlflow = MlflowBackend(settings=self._settings.mlflow)
        feast = FeastBackend(settings=self._settings.feast)
        airflow = AirflowBackend(settings=self._settings.airflow)
        bentoml = BentomlBackend(settings=self._settings.bentoml)
        await asyncio.gather(self._open(mlflow), self._open(feast), self._open(airflow), self._open(bentoml))
        return _Backends(mlflow, feast, airflow, bentoml)

    async def server(self, grpc_server: GrpcServer, store: _Store, backends: _Backends) -> Server:
        settings, clock = self._settings, SystemClock()
        experiments, models = Experiments(backend=backends.mlflow), Models(backend=backends.mlflow)
        online = OnlineFeatures(backend=backends.feast)
        jobs = Jobs(records=store.jobs, pipelines=Pipelines(backend=backends.airflow), tracking=experiments, clock=clock)
        hub = WatchHub(read=jobs.get, settings=settings.jobs, clock=clock)
        self._stack.push_async_callback(hub.close)
        health_servicer = health.aio.HealthServicer()
        prober = await self._open(self._prober(store, backends, health_servicer))
        engine = await self._engine(store, backends, models, online)
        streams = PredictionStreams(
            predict=engine.predict, in_flight=settings.serving.stream_in_flight, deadline=settings.server.default_deadline
        )
        services = [
            (EXPERIMENTS, ExperimentService(experiments=experiments)),
            (MODELS, ModelService(models=models, features=online, deployments=store.deployments)),
            (DEPLOYMENTS, await self._deployments(store, jobs, models, engine, clock)),
            (TRAINING, TrainingService(training=self._training(jobs, experiments), jobs=jobs, hub=hub)),
            (FEATURES, self._features(backends, online, jobs)),
            (PREDICTIONS, PredictionService(engine=engine, batches=Batches(find=engine.served), streams=streams)),
            (PLATFORM, _platform(store, prober, experiments, models)),
        ]
        # Closed before everything that its calls need.
        self._stack.push_async_callback(grpc_server.close)
        await grpc_server.serve(services, verify=store.keys.verify, calls=store.calls, health_servicer=health_servicer)
        return Server(grpc_server=grpc_server, prober=prober, hub=hub, streams=streams, drain=settings.server.drain)

    def _prober(self, store: _Store, backends: _Backends, servicer: health.aio.HealthServicer) -> Prober:
        asked: dict[str, Probed] = {
            "mlflow": backends.mlflow,
            "feast": backends.feast,
            "airflow": backends.airflow,
            "bentoml": backends.bentoml,
            "store": store.database,
        }
        return Prober(backends=asked, needs=NEEDS, servicer=servicer, interval=self._settings.server.probe_interval)

    def _training(self, jobs: Jobs, experiments: Experiments) -> Training:
        return Training(jobs=jobs, tracking=experiments, settings=self._settings.airflow)

    async def _deployments(
        self, store: _Store, jobs: Jobs, models: Models, engine: PredictionEngine, clock: SystemClock
    ) -> DeploymentService:
        records, settings = store.deployments, self._settings
        reconciler = Reconciler(
            records=records, jobs=jobs, registry=models, settings=settings.jobs, clock=clock, on_activated=engine.refresh
        )
        await self._open(reconciler)
        return DeploymentService(
            deployments=Deployments(records=records, jobs=jobs, registry=models, settings=settings.airflow, clock=clock)
        )

    def _features(self, backends: _Backends, online: OnlineFeatures, jobs: Jobs) -> FeatureService:
        views = FeatureViews(backend=backends.feast)
        materialization = Materialization(jobs=jobs, views=views, settings=self._settings.airflow)
        return FeatureService(views=views, online=online, materialization=materialization)

    async def _engine(self, store: _Store, backends: _Backends, models: Models, online: OnlineFeatures) -> PredictionEngine:
        engine = PredictionEngine(
            settings=self._settings.serving,
            deployments=store.deployments,
            registry=models,
            features=online,
            bentoml=backends.bentoml,
        )
        return await self._open(engine)

    async def _open(self, part: T) -> T:
        """Open a part and see to it that it is closed, even if the opening fails half-way."""
        self._stack.push_async_callback(part.close)
        await part.open()
        return part


def _platform(store: _Store, prober: Prober, experiments: Experiments, models: Models) -> PlatformService:
    return PlatformService(prober=prober, experiments=experiments, models=models, deployments=store.deployments, jobs=store.jobs)
