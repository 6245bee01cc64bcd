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
        needs: the backends without which it cannot serve; its health follows theirs.
        asks: further backends that it asks, or tells of.
    """

    name: str
    service: ServiceDescriptor
    servicer: Callable[[Container], object]
    needs: tuple[str, ...]
    asks: tuple[str, ...] = ()


SERVICE_SPECS = (
    ServiceSpec(
        name="experiments",
        service=experiments_pb2.DESCRIPTOR.services_by_name["ExperimentService"],
        servicer=lambda parts: ExperimentService(experiments=parts.experiments),
        needs=("mlflow",),
    ),
    ServiceSpec(
        name="models",
        service=models_pb2.DESCRIPTOR.services_by_name["ModelService"],
        servicer=lambda parts: ModelService(models=parts.models, features=parts.online, deployments=parts.deployment_records),
        needs=("mlflow",),
        asks=("feast",),
    ),
    ServiceSpec(
        name="deployments",
        service=deployments_pb2.DESCRIPTOR.services_by_name["DeploymentService"],
        servicer=lambda parts: DeploymentService(deployments=parts.deployments),
        needs=("mlflow", "airflow"),
    ),
    ServiceSpec(
        name="training",
        service=training_pb2.DESCRIPTOR.services_by_name["TrainingService"],
        servicer=lambda parts: TrainingService(training=parts.training),
        needs=("airflow",),
        asks=("mlflow",),
    ),
    ServiceSpec(
        name="jobs",
        service=jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
        servicer=lambda parts: JobService(jobs=parts.jobs, hub=parts.hub),
        needs=("airflow",),
        asks=("mlflow",),
    ),
    ServiceSpec(
        name="features",
        service=features_pb2.DESCRIPTOR.services_by_name["FeatureService"],
        servicer=lambda parts: FeatureService(views=parts.views, online=parts.online, materialization=parts.materialization),
        needs=("feast",),
        asks=("airflow",),
    ),
    ServiceSpec(
        name=PREDICTIONS,
        service=predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"],
        servicer=lambda parts: PredictionService(engine=parts.engine, batches=parts.batches, streams=parts.streams),
        needs=("feast",),
        asks=("mlflow", "bentoml"),
    ),
    ServiceSpec(
        name=PREDICTIONS,
        service=open_inference.SERVICE,
        servicer=lambda parts: OpenInferenceService(
            models=parts.engine,
            ready=lambda: parts.prober.serving(open_inference.SERVICE.full_name),
            in_flight=parts.in_flight,
        ),
        needs=("feast",),
        asks=("mlflow", "bentoml"),
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
        needs=("store",),
        asks=BACKENDS,
    ),
)


def offered(settings: Settings) -> list[ServiceSpec]:
    """The services that this process is to offer."""
    return [offer for offer in SERVICE_SPECS if offer.name in settings.server.offered]


def parts_for(
    settings: Settings, offers: Sequence[ServiceSpec], *, health: Health, given: Mapping[str, object] = MappingProxyType({})
) -> Container:
    """What these services are made of; nothing is made yet. Parts that are given, by name, stand in for those of this server."""
    needs = {offer.service.full_name: offer.needs for offer in offers}
    probed = frozenset(name for offer in offers for name in (*offer.needs, *offer.asks)) | {"store"}
    # "" is the server as a whole.
    return Container(
        settings,
        needs={**needs, "": ("store",)},
        probed=probed,
        health=health,
        given=given,
        with_predictions=any(offer.name == PREDICTIONS for offer in offers),
    )
