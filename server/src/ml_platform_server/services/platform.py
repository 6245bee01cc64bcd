"""PlatformService: how the platform is, what it holds, and who is asking."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import jobs_pb2, platform_pb2
from ml_platform.v1.jobs_pb2 import JobKind
from ml_platform_server import scopes
from ml_platform_server.call import Call
from ml_platform_server.services.health import BackendStatus, HealthChecker

_WINDOW = timedelta(hours=24)


class Counted(Protocol):
    """Something that knows how many there are."""

    async def count(self) -> int:
        """How many there are."""


class CountedActive(Protocol):
    """Something that knows how many are active."""

    async def count_active(self) -> int:
        """How many are active."""


class CountedSince(Protocol):
    """Something that knows how many came since a time."""

    async def count_since(self, kind: JobKind.ValueType, since: datetime, /) -> int:
        """How many of a kind came since a time."""


class PlatformService:
    """See the contract."""

    def __init__(
        self, *, prober: HealthChecker, experiments: Counted, models: Counted, deployments: CountedActive, jobs: CountedSince
    ) -> None:
        self._prober = prober
        self._experiments = experiments
        self._models = models
        self._deployments = deployments
        self._jobs = jobs

    async def GetHealth(self, request: platform_pb2.GetHealthRequest, call: Call) -> platform_pb2.GetHealthResponse:  # noqa: ARG002
        """Ask every backend how it is."""
        statuses = await self._prober.check()
        return platform_pb2.GetHealthResponse(
            status=_status(all(status.healthy for status in statuses)), backends=[_health(status) for status in statuses]
        )

    async def GetUsage(self, request: platform_pb2.GetUsageRequest, call: Call) -> platform_pb2.GetUsageResponse:  # noqa: ARG002
        """Count what the platform holds."""
        now = datetime.now(UTC)
        experiments, models, deployments, jobs = await asyncio.gather(
            self._experiments.count(),
            self._models.count(),
            self._deployments.count_active(),
            self._jobs.count_since(jobs_pb2.JOB_KIND_TRAINING, now - _WINDOW),
        )
        return platform_pb2.GetUsageResponse(
            experiments=experiments,
            models=models,
            active_deployments=deployments,
            training_jobs_last_24h=jobs,
            observe_time=_timestamp(now.timestamp()),
        )

    async def WhoAmI(self, request: platform_pb2.WhoAmIRequest, call: Call) -> platform_pb2.WhoAmIResponse:  # noqa: ARG002
        """Tell what is known of the caller's key."""
        principal = call.principal
        return platform_pb2.WhoAmIResponse(
            principal=principal.name,
            key_id=principal.key_id,
            scopes=[scopes.name_of(scope) for scope in sorted(principal.scopes)],
            expire_time=_timestamp(principal.expire_time),
        )


def _status(healthy: bool | None) -> platform_pb2.HealthStatus.ValueType:
    return platform_pb2.HEALTH_STATUS_HEALTHY if healthy else platform_pb2.HEALTH_STATUS_UNHEALTHY


def _health(status: BackendStatus) -> platform_pb2.BackendHealth:
    health = platform_pb2.BackendHealth(
        name=status.name,
        status=_status(status.healthy),
        last_error=status.last_error,
        last_error_time=_timestamp(status.last_error_time),
        check_time=_timestamp(status.check_time),
    )
    if status.latency is not None:
        health.latency.FromNanoseconds(int(status.latency * 1e9))
    return health


def _timestamp(seconds: float | None) -> Timestamp | None:
    """A point in time as the contract has it; None, which leaves a field absent, for none."""
    if seconds is None:
        return None
    moment = Timestamp()
    moment.FromNanoseconds(int(seconds * 1e9))
    return moment
