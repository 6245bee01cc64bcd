"""What the prober tells of the backends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from ml_platform.v1 import jobs_pb2, platform_pb2
from ml_platform_server import scopes
from ml_platform_server.call import ANONYMOUS, Call, Principal, remaining, set_deadline
from ml_platform_server.errors import backend_unavailable
from ml_platform_server.services.health import HealthChecker
from ml_platform_server.services.platform import PlatformService
from ml_platform_server.transport.grpc_aio.health import HealthServicer

NEEDS = {"models": ["mlflow"], "deployments": ["mlflow", "airflow"], "": []}


class Backend:
    """A backend that is as well as it is told to be."""

    def __init__(self):
        self.error = None
        self.probes = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.remaining = None

    async def probe(self):
        self.probes += 1
        self.remaining = remaining(123.0)
        await self.go_on.wait()
        if self.error:
            raise self.error


@pytest.fixture
def backends():
    return {"mlflow": Backend(), "airflow": Backend()}


@pytest.fixture
def servicer():
    return HealthServicer()


@pytest.fixture
async def prober(backends, servicer):
    prober = HealthChecker(backends=backends, required_backends=NEEDS, servicer=servicer, interval=0.01, timeout=0.2)
    yield prober
    await prober.close()


async def serving(servicer):
    """What the standard health service says of each service."""
    answers = {name: await servicer.Check(HealthCheckRequest(service=name), None) for name in NEEDS}
    return {name: answer.status == HealthCheckResponse.SERVING for name, answer in answers.items()}


async def until(servicer, expected):
    """Wait until the standard health service says this."""
    async with asyncio.timeout(5):
        while await serving(servicer) != expected:  # noqa: ASYNC110  # the standard service has no event to wait for
            await asyncio.sleep(0.01)


async def test_nothing_serves_before_it_was_asked(prober, backends, servicer):
    """Everything that needs a backend starts as NOT_SERVING."""
    for backend in backends.values():
        backend.go_on.clear()
    await prober.open()
    assert await serving(servicer) == {"models": False, "deployments": False, "": True}


async def test_a_service_serves_when_all_its_backends_are_well(prober, backends, servicer):
    """A backend that is down takes down what needs it, and only that; when it comes back, so do they."""
    backends["airflow"].error = backend_unavailable("Airflow")
    await prober.open()
    await until(servicer, {"models": True, "deployments": False, "": True})
    backends["airflow"].error = None
    await until(servicer, {"models": True, "deployments": True, "": True})
    backends["mlflow"].error = backend_unavailable("MLflow")
    await until(servicer, {"models": False, "deployments": False, "": True})


async def test_closing_takes_everything_out_of_service(prober, servicer):
    """After closing all is NOT_SERVING, and stays so."""
    await prober.open()
    await until(servicer, {"models": True, "deployments": True, "": True})
    await prober.close()
    await servicer.set("models", HealthCheckResponse.SERVING)
    assert await serving(servicer) == {"models": False, "deployments": False, "": False}


async def test_the_last_error_is_kept_after_the_recovery(prober, backends):
    """A backend that recovered still tells what was wrong, and when."""
    backends["mlflow"].error = backend_unavailable("MLflow")
    before = time.time()
    await prober.check()
    backends["mlflow"].error = None
    status = (await prober.check())[0]
    assert (status.healthy, status.last_error) == (True, "MLflow does not answer.")
    assert before <= status.last_error_time <= status.check_time


@pytest.mark.parametrize(
    ("error", "expected"), [(RuntimeError("vendor says: secret"), "It could not be asked; the server's log tells why.")]
)
async def test_a_probe_that_breaks_tells_nothing_of_the_vendors(prober, backends, error, expected):
    """Only texts of ours reach the caller."""
    backends["mlflow"].error = error
    assert expected == (await prober.check())[0].last_error


async def test_a_backend_that_hangs_is_not_well(prober, backends):
    """A probe without an answer ends after the timeout, and holds up no other."""
    backends["mlflow"].go_on.clear()
    mlflow, airflow = await prober.check()
    assert (mlflow.healthy, mlflow.last_error, airflow.healthy) == (False, "It did not answer within 0.2 seconds.", True)
    assert mlflow.latency >= 0.19


async def test_callers_at_the_same_time_share_a_round(prober, backends):
    """However many ask at once, each backend is asked once."""
    await asyncio.gather(*(prober.check() for _ in range(10)))
    assert backends["mlflow"].probes == 1


async def test_a_callers_deadline_is_not_the_probes(prober, backends):
    """A round that a hurried caller started takes its own time, as others rely on it."""
    set_deadline(time.monotonic() + 0.001)
    await prober.check()
    assert backends["mlflow"].remaining == 123.0


class Counts:
    """Counts that are what they are."""

    async def count(self):
        return 3

    async def count_active(self):
        return 2

    async def count_since(self, kind, since):
        return 1 if kind == jobs_pb2.JOB_KIND_TRAINING else 0


@pytest.fixture
def service(prober):
    counts = Counts()
    return PlatformService(prober=prober, experiments=counts, models=counts, deployments=counts, jobs=counts)


def call(principal=ANONYMOUS):
    no_context: Any = None
    return Call(method="", correlation_id="", context=no_context, deadline=0, principal=principal)


async def test_get_health_asks_now(service, backends):
    """GetHealth tells how every backend is at this moment, and all of it is well only if each is."""
    first = await service.GetHealth(platform_pb2.GetHealthRequest(), call())
    backends["airflow"].error = backend_unavailable("Airflow")
    second = await service.GetHealth(platform_pb2.GetHealthRequest(), call())
    healthy, unhealthy = platform_pb2.HEALTH_STATUS_HEALTHY, platform_pb2.HEALTH_STATUS_UNHEALTHY
    assert (healthy, unhealthy) == (first.status, second.status)
    assert [("mlflow", healthy), ("airflow", unhealthy)] == [(backend.name, backend.status) for backend in second.backends]
    assert not first.backends[0].HasField("last_error_time")


async def test_get_usage_counts(service):
    """GetUsage tells the four counts and when they were taken."""
    metrics = await service.GetUsage(platform_pb2.GetUsageRequest(), call())
    counts = (metrics.experiments, metrics.models, metrics.active_deployments, metrics.training_jobs_last_24h)
    assert (counts, metrics.HasField("observe_time")) == ((3, 3, 2, 1), True)


async def test_who_am_i_tells_what_the_key_says(service):
    """WhoAmI names the principal, the key and its scopes, and its end if it has one."""
    principal = Principal("ann", "k1", scopes.parse(["experiments:read", "models:write"]), expire_time=1e9)
    answer = await service.WhoAmI(platform_pb2.WhoAmIRequest(), call(principal))
    assert (answer.principal, answer.key_id, list(answer.scopes)) == ("ann", "k1", ["experiments:read", "models:write"])
    assert answer.expire_time.seconds == 1_000_000_000
