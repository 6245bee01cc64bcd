"""What the figures need and nothing more: Valkey, Feast on it, PostgreSQL, MLflow with the models, BentoML if wanted, the server.

The services are those of the local stack (deploy/local), in a state folder of their own. The server under test has one core for
itself; everything else shares the others. What was trained and registered stays in the folder for the next run.
"""

from __future__ import annotations

import asyncio
import fcntl
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Self

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import cores, deployments
from benchmarks.model import Facts
from deploy.local import ports, processes, services
from deploy.local.config import HOST, ROOT, StackConfig, parse_ports
from deploy.local.errors import NotRunningError, StackError
from deploy.local.launch import Step
from deploy.local.layout import Layout, Service
from deploy.local.logs import blame
from deploy.local.preparation import Preparation, database_steps, write_feature_store
from deploy.local.services import postgres
from deploy.local.services import server as server_service
from deploy.local.stack import Stack
from ml_platform_server.settings import Settings

PREDICTIONS = "ml_platform.v1.PredictionService"
PATIENCE = 300.0
# Metrics are off unless they have a port.
METRICS_PORT = "ML_PLATFORM_SERVER__METRICS_PORT"
# The local stack reads the feature registry more often than a server does by default.
REGISTRY_TTL, REGISTRY_SECONDS = "ML_PLATFORM_FEAST__REGISTRY_TTL", "30"


class BenchStack:
    """The stack of one run of the benchmarks, as a context: everything that was started ends with the block."""

    def __init__(self, state: Path) -> None:
        # Whatever else ran would be measured too, and parts end services on purpose.
        self._local = Stack(state, describe=_backends, prepare=_preparation, supervised=False)
        self.state = self._local.state
        self._processes: dict[str, psutil.Process] = {}
        self._held = False

    def __enter__(self) -> Self:
        """Start the backends unless `python -m benchmarks hold` keeps them; train and register the models the first time."""
        self._lock = self._taken()
        self._held = self._runs()
        try:
            if not self._held:
                self._up()
            self.layout = self._local.layout()
            self.facts = self._models()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End what was started."""
        self._end()

    def let_others_in(self) -> None:
        """Let other runs use these backends while this one keeps them."""
        self._lock.close()

    @property
    def target(self) -> str:
        """Where the server listens, as gRPC wants it."""
        return self.layout.addresses.address("server")

    @property
    def api_key(self) -> str:
        """A key with every scope."""
        return self.layout.credentials.api_key

    @property
    def store_url(self) -> str:
        """The platform's own database."""
        return server_service.settings(self.layout)["ML_PLATFORM_STORE__URL"]

    def deploy(self, model: str, version: int, *, bentoml: bool = False) -> None:
        """Let a version answer in production, as a deployment that passed its checks would."""
        asyncio.run(deployments.activate_once(self.store_url, model, version, bentoml=bentoml))

    def start(self, name: str, *, settings: Mapping[str, str] = MappingProxyType({})) -> float:
        """Start the server or BentoML on the server's core; gives the seconds until it was ready."""
        service = _described(self.layout)[name]
        given = {METRICS_PORT: str(ports.free_ports(1)[0]), REGISTRY_TTL: REGISTRY_SECONDS}
        environment = {**service.environment(), **given, **settings}
        return self.run(name, service.command, service.probe, environment=environment, folder=service.folder)

    def run(
        self,
        name: str,
        command: Sequence[str],
        probe: Callable[[], str | None],
        *,
        environment: Mapping[str, str] | None = None,
        folder: Path = ROOT,
    ) -> float:
        """Run any server on the server's core until it is stopped or the block ends; gives the seconds until it was ready."""
        begun = time.monotonic()
        with cores.on(cores.SERVER):
            record = processes.spawn(
                name, command, state=self.state, environment=environment or self.layout.environment(), folder=folder
            )
        self._processes[name] = psutil.Process(record.pid)
        while trouble := probe():
            if not processes.is_alive(record):
                raise blame(self.state, name, "ended instead of starting")
            if time.monotonic() - begun > PATIENCE:
                raise blame(self.state, name, f"is not well after {PATIENCE:.0f} s: it {trouble}")
            time.sleep(0.02)
        return time.monotonic() - begun

    def stop(self, name: str) -> None:
        """End one of them."""
        processes.end(self.state, name)
        self._processes.pop(name, None)

    def tree(self, name: str) -> list[psutil.Process]:
        """The process of a service and its children."""
        process = self._processes.get(name) or psutil.Process(self.state.read().services[name].pid)
        return [process, *process.children(recursive=True)]

    def _taken(self) -> IO[str]:
        """Keep other runs out: two at once would measure each other. Closing the file lets go of the lock.

        Raises:
            StackError: another run is at work.
        """
        file = (self.state.folder() / "benchmarks.lock").open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StackError(f"Another run of the benchmarks is at work in {self.state.path}. Wait for it to end.") from None
        return file

    def _runs(self) -> bool:
        try:
            return all(processes.is_alive(each) for each in self.state.read().services.values())
        except NotRunningError:
            return False

    def _up(self) -> None:
        processes.end(self.state)  # What a run left that was killed.
        self.state.forget()
        with cores.on(cores.LOAD):
            self._local.up(StackConfig(state=self.state.path, ports=dict.fromkeys(parse_ports([]), 0), timeout=PATIENCE))

    def _end(self) -> None:
        if not self._held:
            self._local.down()
        for name in list(self._processes):
            self.stop(name)
        self._lock.close()

    def _models(self) -> Facts:
        place = self.state.folder("model")
        if not Facts.are_in(place):
            print("Training and registering the models, a minute, once", file=sys.stderr, flush=True)
            environment = {**self.layout.environment(), "AIRFLOW_HOME": str(place / "airflow")}
            with self.state.log("model").open("wb") as log:
                command = [sys.executable, "-m", "benchmarks.model", str(place)]
                marked = {**environment, **processes.marks(self.state, "model")}
                done = subprocess.run(command, check=False, cwd=ROOT, env=marked, stdout=log, stderr=subprocess.STDOUT)
            if done.returncode:
                raise blame(self.state, "model", f"ended with status {done.returncode}")
        return Facts.read(place)


def server_settings(stack: BenchStack) -> Settings:
    """The settings that the server under test runs with."""
    return Settings.model_validate(server_service.settings(stack.layout))


def _backends(layout: Layout) -> dict[str, Service]:
    """What runs from the beginning to the end."""
    return {name: service for name, service in _described(layout).items() if name in ("valkey", "postgres", "mlflow")}


def _described(layout: Layout) -> dict[str, Service]:
    described = services.build(layout)
    port = layout.addresses.ports["server"]
    return {**described, "server": replace(described["server"], probe=lambda: serving(port, PREDICTIONS))}


def _preparation(layout: Layout, *, timeout: float, progress: object, cancelled: threading.Event) -> list[Step]:
    """The steps of the local stack without those that need Airflow."""
    del progress
    prepare = Preparation(layout, timeout=timeout, cancelled=cancelled)
    write_feature_store(layout)
    if not postgres.data(layout).exists():
        shutil.rmtree(layout.state.path / "model", ignore_errors=True)  # Its models were registered in other data.
    return [*database_steps(prepare), Step("example", prepare.example, needs=("valkey",))]


def serving(port: int, service: str) -> str | None:
    """Ask a gRPC server whether a service is well."""
    with grpc.insecure_channel(f"{HOST}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=2.0)
        except grpc.RpcError as error:
            return f"answers {error.code().name}"
    return None if reply.status == health_pb2.HealthCheckResponse.SERVING else f"does not serve {service}"
