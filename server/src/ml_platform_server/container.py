"""The parts of a server, each made when something first needs it: a process has no more of them than its services take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType

from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.pipelines import Pipelines
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.environments import Environments
from ml_platform_server.jobs.clock import SystemClock
from ml_platform_server.jobs.deployments import Deployments
from ml_platform_server.jobs.hub import WatchHub
from ml_platform_server.jobs.jobs import Jobs
from ml_platform_server.jobs.materialization import Materialization
from ml_platform_server.jobs.reconciler import Reconciler
from ml_platform_server.jobs.training import Training
from ml_platform_server.observability.recorders import CallMetrics, PredictionMetrics
from ml_platform_server.parts import Parts
from ml_platform_server.services.health import HealthCheckable, HealthChecker
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.features.policy_check import PolicyChecker
from ml_platform_server.serving.rpc.batch_rows import Batches
from ml_platform_server.serving.rpc.in_flight import InFlight
from ml_platform_server.serving.rpc.stream import PredictionStreams
from ml_platform_server.settings import Settings
from ml_platform_server.start import StartupError
from ml_platform_server.store.database import MigratedDatabase
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.keys import ApiKeys
from ml_platform_server.store.locks import Locks
from ml_platform_server.transport.port import Health

BACKENDS = ("mlflow", "feast", "airflow", "bentoml", "store")
"""The backends whose health is reported, in this order."""


class Container(Parts):
    """The parts of this server.

    Args:
        settings: all of them.
        required_backends: for each service that is offered, by its full name, the backends without which it cannot serve.
        probed: the backends whose health is checked.
        health: the standard health service, whose statuses are set.
        with_predictions: whether this process answers predictions, and so is to follow its own deployments at once.
        given: see Parts.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        required_backends: Mapping[str, Sequence[str]],
        probed: frozenset[str],
        with_predictions: bool,
        health: Health,
        given: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        super().__init__(given)
        self.settings = settings
        self._required_backends = required_backends
        self._probed = probed
        self._with_predictions = with_predictions
        self._health = health

    async def begin_shutdown(self) -> None:
        """Set NOT_SERVING, and end watches and streams."""
        await self.prober.close()
        if "hub" in self.made:
            await self.hub.close()
        if "streams" in self.made:
            self.streams.close()

    @cached_property
    def environments(self) -> Environments:
        """The environments that versions can be deployed to."""
        return Environments(self.settings.server.environment_names)

    # The store.

    @cached_property
    def store(self) -> MigratedDatabase:
        """The platform's own database."""
        return self._kept(MigratedDatabase(url=self.settings.store.url))

    @cached_property
    def keys(self) -> ApiKeys:
        """Who may call."""
        pepper = self.settings.store.pepper
        if not pepper:
            raise StartupError(
                "ML_PLATFORM_STORE__KEY_PEPPER is not set, and no file names it; API keys are hashed with it. "
                "Set it to a long random text."
            )
        return self._kept(ApiKeys(database=self.store, pepper=pepper))

    @cached_property
    def calls(self) -> IdempotencyStore:
        """The answers to mutating calls."""
        return self._kept(IdempotencyStore(database=self.store))

    @cached_property
    def job_records(self) -> JobRecords:
        """The jobs that were submitted."""
        return JobRecords(database=self.store)

    @cached_property
    def deployment_records(self) -> DeploymentRecords:
        """What is deployed, and was."""
        return DeploymentRecords(database=self.store)

    # The backends. Each loads its vendor's library in the background, which takes seconds.

    @cached_property
    def mlflow(self) -> MlflowBackend:
        """The connection to MLflow."""
        return self._kept(MlflowBackend(settings=self.settings.mlflow))

    @cached_property
    def feast(self) -> FeastBackend:
        """The connection to Feast."""
        return self._kept(FeastBackend(settings=self.settings.feast))

    @cached_property
    def airflow(self) -> AirflowBackend:
        """The connection to Airflow."""
        return self._kept(AirflowBackend(settings=self.settings.airflow))

    @cached_property
    def bentoml(self) -> BentomlBackend:
        """The connection to BentoML."""
        return self._kept(BentomlBackend(settings=self.settings.bentoml))

    @cached_property
    def experiments(self) -> Experiments:
        """Experiments and runs."""
        return Experiments(backend=self.mlflow)

    @cached_property
    def models(self) -> Models:
        """The model registry."""
        return Models(backend=self.mlflow)

    @cached_property
    def views(self) -> FeatureViews:
        """The feature views."""
        return FeatureViews(backend=self.feast, locks=Locks(calls=self.calls))

    @cached_property
    def online(self) -> OnlineFeatures:
        """The online features."""
        return OnlineFeatures(backend=self.feast)

    # Jobs.

    @cached_property
    def clock(self) -> SystemClock:
        """The clock of jobs."""
        return SystemClock()

    @cached_property
    def jobs(self) -> Jobs:
        """Jobs of every kind."""
        pipelines = Pipelines(backend=self.airflow)
        return Jobs(
            records=self.job_records,
            pipelines=pipelines,
            tracking=self.experiments,
            clock=self.clock,
            run_page=self.airflow.links.run,
        )

    @cached_property
    def hub(self) -> WatchHub:
        """Who watches which job."""
        return self._kept(WatchHub(read=self.jobs.poll, settings=self.settings.jobs, clock=self.clock))

    @cached_property
    def training(self) -> Training:
        """Training jobs."""
        return Training(jobs=self.jobs, tracking=self.experiments, settings=self.settings.airflow)

    @cached_property
    def materialization(self) -> Materialization:
        """Materialization jobs."""
        return Materialization(jobs=self.jobs, views=self.views, settings=self.settings.airflow)

    @cached_property
    def deployments(self) -> Deployments:
        """Deployments, with the reconciler that completes them."""
        _ = self.reconciler
        return Deployments(
            environments=self.environments,
            records=self.deployment_records,
            jobs=self.jobs,
            registry=self.models,
            check_policy=PolicyChecker(registry=self.models, reader=self.online).check,
            settings=self.settings.airflow,
            clock=self.clock,
            version_page=self.mlflow.links.version,
            runtime_in_use=self.engine.runtime_in_use if self._with_predictions else _served_elsewhere,
            follow=self.engine.follow if self._with_predictions else None,
        )

    @cached_property
    def reconciler(self) -> Reconciler:
        """What makes the ends of deployments count. Every process that offers deployments has one, which is harmless."""
        return self._kept(
            Reconciler(
                records=self.deployment_records,
                jobs=self.jobs,
                registry=self.models,
                settings=self.settings.jobs,
                clock=self.clock,
                on_activated=self.engine.refresh if self._with_predictions else _nothing,
            )
        )

    # Predictions.

    @cached_property
    def engine(self) -> PredictionEngine:
        """What answers predictions."""
        return self._kept(
            PredictionEngine(
                environments=self.environments,
                settings=self.settings.serving,
                deployments=self.deployment_records,
                registry=self.models,
                features=self.online,
                bentoml=self.bentoml,
                metrics=self.prediction_metrics,
            )
        )

    @cached_property
    def batches(self) -> Batches:
        """Predictions of many rows a call."""
        return Batches(find=self.engine.served, in_flight=self.in_flight)

    @cached_property
    def in_flight(self) -> InFlight:
        """What is worked on of batches, tensors and streams."""
        serving = self.settings.serving
        return InFlight(most_rows=serving.rows_in_flight, most_bytes=serving.bytes_in_flight)

    @cached_property
    def streams(self) -> PredictionStreams:
        """Predictions on streams."""
        return PredictionStreams(
            predict=self.engine.predict_encoded,
            in_flight=self.settings.serving.max_inflight_per_stream,
            in_flight_of_all=self.in_flight,
            deadline=self.settings.server.default_deadline,
        )

    # Health and metrics.

    @cached_property
    def call_metrics(self) -> CallMetrics:
        """What is counted of calls."""
        return CallMetrics()

    @cached_property
    def prediction_metrics(self) -> PredictionMetrics:
        """What is counted of predictions."""
        return PredictionMetrics()

    @cached_property
    def prober(self) -> HealthChecker:
        """What asks the backends how they are."""
        asked: dict[str, HealthCheckable] = {name: getattr(self, name) for name in BACKENDS if name in self._probed}
        interval = self.settings.server.health_check_interval
        return self._kept(
            HealthChecker(backends=asked, required_backends=self._required_backends, servicer=self._health, interval=interval)
        )


async def _nothing() -> None:
    """Nobody here follows the deployments."""


def _served_elsewhere(_deployment_id: str) -> None:
    """Nothing is served here."""
