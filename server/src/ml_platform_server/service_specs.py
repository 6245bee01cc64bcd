"""The services that a server can offer: what each needs, and how it is made of the parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from google.protobuf.descriptor import ServiceDescriptor

from ml_platform.v1 import (
    deployments_pb2,
    experiments_pb2,
    features_pb2,
    jobs_pb2,
    models_pb2,
    platform_pb2,
    predictions_pb2,
    training_pb2,
)
from ml_platform_server import open_inference
from ml_platform_server.container import BACKENDS, Container
from ml_platform_server.services.deployments import DeploymentService
from ml_platform_server.services.experiments import ExperimentService
from ml_platform_server.services.features import FeatureService
from ml_platform_server.services.jobs import JobService
from ml_platform_server.services.models import ModelService
from ml_platform_server.services.open_inference import OpenInferenceService
from ml_platform_server.services.platform import PlatformService
from ml_platform_server.services.predictions import PredictionService
from ml_platform_server.services.training import TrainingService
from ml_platform_server.settings import Settings
from ml_platform_server.transport.port import Health

PREDICTIONS = "predictions"


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A service.

    Attributes:
        name: as `--services` has it.
        service: its part of the contract.
        servicer: makes what implements it.
        required_backends: the backends without which it cannot serve; its health follows theirs.
        optional_backends: further backends that it calls or reports on.
    """

    name: str
    service: ServiceDescriptor
    servicer: Callable[[Container], object]
    required_backends: tuple[str, ...]
    optional_backends: tuple[str, ...] = ()


SERVICE_SPECS = (
    ServiceSpec(
        name="experiments",
        service=experiments_pb2.DESCRIPTOR.services_by_name["ExperimentService"],
        servicer=lambda parts: ExperimentService(experiments=parts.experiments),
        required_backends=("mlflow",),
    ),
    ServiceSpec(
        name="models",
        service=models_pb2.DESCRIPTOR.services_by_name["ModelService"],
        servicer=lambda parts: ModelService(models=parts.models, features=parts.online, deployments=parts.deployment_records),
        required_backends=("mlflow",),
        optional_backends=("feast",),
    ),
    ServiceSpec(
        name="deployments",
        service=deployments_pb2.DESCRIPTOR.services_by_name["DeploymentService"],
        servicer=lambda parts: DeploymentService(deployments=parts.deployments),
        required_backends=("mlflow", "airflow"),
    ),
    ServiceSpec(
        name="training",
        service=training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        servicer=lambda parts: TrainingService(training=parts.training),
        required_backends=("airflow",),
        optional_backends=("mlflow",),
    ),
    ServiceSpec(
        name="jobs",
        service=jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
        servicer=lambda parts: JobService(jobs=parts.jobs, hub=parts.hub),
        required_backends=("airflow",),
        optional_backends=("mlflow",),
    ),
    ServiceSpec(
        name="features",
        service=features_pb2.DESCRIPTOR.services_by_name["FeatureService"],
        servicer=lambda parts: FeatureService(views=parts.views, online=parts.online, materialization=parts.materialization),
        required_backends=("feast",),
        optional_backends=("airflow",),
    ),
    ServiceSpec(
        name=PREDICTIONS,
        service=predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"],
        servicer=lambda parts: PredictionService(engine=parts.engine, batches=parts.batches, streams=parts.streams),
        required_backends=("feast",),
        optional_backends=("mlflow", "bentoml"),
    ),
    ServiceSpec(
        name=PREDICTIONS,
        service=open_inference.SERVICE,
        servicer=lambda parts: OpenInferenceService(
            models=parts.engine,
            ready=lambda: parts.prober.serving(open_inference.SERVICE.full_name),
            in_flight=parts.in_flight,
        ),
        required_backends=("feast",),
        optional_backends=("mlflow", "bentoml"),
    ),
    ServiceSpec(
        name="platform",
        service=platform_pb2.DESCRIPTOR.services_by_name["PlatformService"],
        servicer=lambda parts: PlatformService(
            prober=parts.prober,
            experiments=parts.experiments,
            models=parts.models,
            deployments=parts.deployment_records,
            jobs=parts.job_records,
        ),
        required_backends=("store",),
        optional_backends=BACKENDS,
    ),
)


def selected_specs(settings: Settings) -> list[ServiceSpec]:
    """The services that this process is to offer."""
    return [spec for spec in SERVICE_SPECS if spec.name in settings.server.offered]


def parts_for(
    settings: Settings, specs: Sequence[ServiceSpec], *, health: Health, given: Mapping[str, object] = MappingProxyType({})
) -> Container:
    """What these services are made of; nothing is made yet. Parts that are given, by name, stand in for those of this server."""
    required = {spec.service.full_name: spec.required_backends for spec in specs}
    probed = frozenset(name for spec in specs for name in (*spec.required_backends, *spec.optional_backends)) | {"store"}
    # "" is the server as a whole.
    return Container(
        settings,
        required_backends={**required, "": ("store",)},
        probed=probed,
        health=health,
        given=given,
        with_predictions=any(spec.name == PREDICTIONS for spec in specs),
    )
