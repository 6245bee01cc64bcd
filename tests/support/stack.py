"""The real stack for tests: started once per run, on free ports, in a state folder of its own, and ended with the run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from deploy.local import processes
from deploy.local import stack as local
from deploy.local.config import ROOT, StackConfig, parse_ports
from deploy.local.state import ProcessRecord

# Each run has a folder of its own there, named after its process, so that a later run can tell whether it still goes on.
RUNS = ROOT / "build" / "test-stacks"
PIPELINES = ROOT / "tests" / "dags"
PATIENCE = 600.0  # Seconds; a machine that is busy with other work needs them.


class Stack:
    """A running stack as tests see it.

    Attributes:
        state: the folder with its databases, artifacts and logs.
        folder: the same, with the record of what runs.
        api_url: where the server is, as the client wants it.
        target: the same as gRPC wants it.
        api_key: a key with every scope.
        urls: the HTTP addresses of `mlflow`, `airflow` and `bentoml`.
        environment: what `make env` prints, by name.
    """

    def __init__(self, running: local.Stack) -> None:
        self._running = running
        addresses = running.layout().addresses
        self.folder = running.state
        self.state = running.state.path
        self.environment = running.exports()
        self.api_url = self.environment["ML_PLATFORM_API_URL"]
        self.api_key = self.environment["ML_PLATFORM_API_KEY"]
        self.target = addresses.address("server")
        self.urls = {name: addresses.url(name) for name in ("mlflow", "airflow", "bentoml")}

    def create_key(self, principal: str, scopes: list[str]) -> str:
        """Make an API key with some scopes, such as `experiments:read`."""
        return self._running.create_key(principal, scopes)

    def log(self, service: str) -> str:
        """Read what a service has logged."""
        return self._running.state.log(service).read_text(errors="replace")

    def process(self, service: str) -> ProcessRecord:
        """What is known of a service's main process."""
        return self.folder.read().services[service]

    def troubles(self) -> list[str]:
        """The services that are not well."""
        return [f"{each.name} {each.trouble}" for each in self._running.status() if each.trouble]

    def stop(self, service: str) -> None:
        """End a service in order, until it is started; one of valkey, postgres, mlflow, airflow, bentoml, server."""
        self._running.stop(service)

    def kill(self, service: str) -> None:
        """End a service as a crash would."""
        self._running.stop(service, grace=0.0)

    def start(self, service: str) -> None:
        """Start a service that was ended, on the same port, and wait until it is well."""
        self._running.start(service, timeout=PATIENCE)

    def pause(self, service: str) -> None:
        """Make a service hang: it keeps its connections and answers nothing."""
        for process in processes.marked(self._running.state, service):
            with suppress(psutil.NoSuchProcess):  # Airflow's are many, and some are short-lived.
                process.suspend()

    def resume(self, service: str) -> None:
        """Let a service go on that was made to hang."""
        for process in processes.marked(self._running.state, service):
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def restart(self, service: str) -> None:
        """End a service in order and start it again."""
        self.stop(service)
        self.start(service)


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The stack of this run. With ML_PLATFORM_TEST_STATE, the one that already runs in that folder, which is left running."""
    if state := os.environ.get("ML_PLATFORM_TEST_STATE"):
        yield Stack(local.Stack(Path(state)))
        return
    # A cancelled run ends its stack too: pytest tears fixtures down after an interruption, not after a termination.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _clear_crashed_runs()
    own = psutil.Process()
    running = local.Stack(RUNS / f"{own.pid}-{int(own.create_time())}")
    ports = dict.fromkeys(parse_ports([]), 0)
    try:
        running.up(StackConfig(state=running.state.path, ports=ports, dag_folders=(PIPELINES,), timeout=PATIENCE))
        yield Stack(running)
    finally:
        running.down()
        if not request.session.testsfailed:
            shutil.rmtree(running.state.path, ignore_errors=True)


def _clear_crashed_runs() -> None:
    """End and remove what earlier runs left: processes after a crash, and the state of a failed run, kept for a look into it."""
    for folder in RUNS.glob("*-*"):
        pid, _, create_time = folder.name.partition("-")
        try:
            alive = int(psutil.Process(int(pid)).create_time()) == int(create_time)
        except psutil.NoSuchProcess:
            alive = False
        if not alive:
            local.Stack(folder).clean()
