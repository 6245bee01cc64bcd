"""How the platform is, what it holds, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ml_platform.records import Record
from ml_platform.v1 import platform_pb2
from ml_platform.values import enum_name, to_datetime


@dataclass(frozen=True, slots=True, repr=False)
class BackendHealth(Record):
    """How one backend is. `latency` is in seconds; `last_error` is kept after it recovered."""

    name: str
    status: str
    latency: float
    last_error: str
    last_error_time: datetime | None
    check_time: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class Health(Record):
    """How everything is: `status` is "healthy" if every backend is, else "unhealthy"."""

    status: str
    backends: tuple[BackendHealth, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Metrics(Record):
    """What the platform holds, counted at `observe_time`."""

    experiments: int
    models: int
    active_deployments: int
    training_jobs_last_24h: int
    observe_time: datetime | None


@dataclass(frozen=True, slots=True, repr=False)
class Identity(Record):
    """Who the platform takes the caller for, and what the key allows: "experiments:read"."""

    principal: str
    key_id: str
    scopes: tuple[str, ...]
    expire_time: datetime | None


def read_health(message: platform_pb2.GetHealthResponse) -> Health:
    """Make a health report of the reply."""
    return Health(status=_status(message.status), backends=tuple(map(_backend, message.backends)))


def read_metrics(message: platform_pb2.GetUsageResponse) -> Metrics:
    """Make metrics of the reply."""
    return Metrics(
        experiments=message.experiments,
        models=message.models,
        active_deployments=message.active_deployments,
        training_jobs_last_24h=message.training_jobs_last_24h,
        observe_time=to_datetime(message, "observe_time"),
    )


def read_identity(message: platform_pb2.WhoAmIResponse) -> Identity:
    """Make an identity of the reply."""
    return Identity(
        principal=message.principal,
        key_id=message.key_id,
        scopes=tuple(message.scopes),
        expire_time=to_datetime(message, "expire_time"),
    )


def _backend(message: platform_pb2.BackendHealth) -> BackendHealth:
    return BackendHealth(
        name=message.name,
        status=_status(message.status),
        latency=message.latency.ToTimedelta().total_seconds(),
        last_error=message.last_error,
        last_error_time=to_datetime(message, "last_error_time"),
        check_time=to_datetime(message, "check_time"),
    )


def _status(number: platform_pb2.HealthStatus.ValueType) -> str:
    return enum_name(platform_pb2.HealthStatus.Name, number, "HEALTH_STATUS_") if number else "unknown"
