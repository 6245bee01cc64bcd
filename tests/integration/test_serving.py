"""The server as a process of its own, on a machine where nothing else runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ml_platform.v1 import platform_pb2, platform_pb2_grpc

COMMAND = [sys.executable, "-c", "from ml_platform_server.cli import app; app()"]
# Nothing listens there: the port is reserved for a protocol that nobody speaks any more.
NOWHERE = "http://127.0.0.1:9"


@dataclass
class Served:
    """A running server: its process, its port, a key, and how to run another command beside it."""

    process: subprocess.Popen[str]
    port: int
    key: str
    run: Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server none of whose backends is there."""
    folder = tmp_path_factory.mktemp("served")
    environment = {**os.environ, **settings(folder)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], env=environment, check=False, capture_output=True, text=True, timeout=120)

    run("db", "upgrade").check_returncode()
    key = run("keys", "create", "--principal", "ann", "--scope", "all").stdout.strip()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", "--port", "0"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        try:
            yield Served(process, ready_port(process, folder / "log"), key, run)
        finally:
            process.kill()


def settings(folder: Path) -> dict[str, str]:
    """An environment that leads nowhere."""
    return {
        "ML_PLATFORM_STORE__URL": f"sqlite+aiosqlite:///{folder}/store.db",
        "ML_PLATFORM_STORE__KEY_PEPPER": "a pepper",
        "ML_PLATFORM_SERVER__HEALTH_CHECK_INTERVAL": "0.5",
        "ML_PLATFORM_MLFLOW__TRACKING_URI": NOWHERE,
        "ML_PLATFORM_AIRFLOW__API_URL": NOWHERE,
        "ML_PLATFORM_BENTOML__URL": NOWHERE,
        "ML_PLATFORM_FEAST__CONFIG_PATH": f"{folder}/feature_store.yaml",
        "ML_PLATFORM_SERVING__MODEL_CACHE": f"{folder}/models",
    }


def ready_port(process: subprocess.Popen[str], log: Path) -> int:
    """Wait for the line that says where the server listens; the process ends if it takes two minutes."""
    guard = threading.Timer(120, process.kill)
    guard.start()
    assert process.stdout is not None
    line = process.stdout.readline()
    guard.cancel()
    match = re.fullmatch(r"ml-platform-server is ready on 127\.0\.0\.1:(\d+)\n", line)
    assert match, f"{line!r}\n{log.read_text()}"
    return int(match[1])


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        yield channel


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("", "SERVING"),
        ("ml_platform.v1.PlatformService", "SERVING"),
        ("ml_platform.v1.ExperimentService", "NOT_SERVING"),
        ("ml_platform.v1.ModelService", "NOT_SERVING"),
        ("ml_platform.v1.DeploymentService", "NOT_SERVING"),
        ("ml_platform.v1.TrainingService", "NOT_SERVING"),
        ("ml_platform.v1.JobService", "NOT_SERVING"),
        ("ml_platform.v1.FeatureService", "NOT_SERVING"),
        ("ml_platform.v1.PredictionService", "NOT_SERVING"),
    ],
)
def test_what_needs_a_backend_does_not_serve_without_it(served, channel, service, expected):
    """The server comes up without any backend, and says which of its services do not work once it has asked them all."""
    platform_pb2_grpc.PlatformServiceStub(channel).GetHealth(  # Ends with a round of probes.
        platform_pb2.GetHealthRequest(), metadata=(("authorization", f"Bearer {served.key}"),), timeout=60
    )
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == expected


def test_every_backend_is_told_to_be_away(served, channel):
    """GetHealth answers within seconds and names each backend that does not answer."""
    stub, metadata = platform_pb2_grpc.PlatformServiceStub(channel), [("authorization", f"Bearer {served.key}")]
    health = stub.GetHealth(platform_pb2.GetHealthRequest(), metadata=metadata, timeout=10)
    told = {backend.name: platform_pb2.HealthStatus.Name(backend.status) for backend in health.backends}
    away = dict.fromkeys(["mlflow", "feast", "airflow", "bentoml"], "HEALTH_STATUS_UNHEALTHY")
    assert told == {**away, "store": "HEALTH_STATUS_HEALTHY"}
    assert all(backend.last_error for backend in health.backends if backend.name != "store")


def test_a_port_that_is_taken_is_named(served):
    """A second server on the port ends with status 1 and a line that names it."""
    second = served.run("serve", "--port", str(served.port))
    assert second.returncode == 1
    assert f"ml-platform-server: Port {served.port} on 127.0.0.1 cannot be had" in second.stderr


def test_a_signal_ends_it(served):
    """SIGTERM ends the server with status 0, well within the time that calls would be given."""
    start = time.monotonic()
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(timeout=30) == 0
    assert time.monotonic() - start < 10
