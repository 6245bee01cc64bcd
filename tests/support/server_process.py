"""Runs the real server as processes of its own, on a store of its own, with no backend to be reached."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from ml_platform_server import scopes
from ml_platform_server.store.keys import ApiKeys
from tests.support.frame import opened_database

PEPPER = "a pepper"
START_SECONDS = 120.0
_NOWHERE = "http://127.0.0.1:9"


def server_log(folder: Path) -> Path:
    """Where the servers of a folder write, one after the other."""
    return folder / "server.log"


class ServerProcess:
    """A server that was started from the command line.

    Attributes:
        process: what the command line started.
        port: where it listens, once it has said that it is ready.
    """

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = 0
        self._log = server_log(folder)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ml_platform_server", "serve", "--port", "0", *options],
                stdout=log,
                stderr=log,
                cwd=folder,
                env={**os.environ, **_environment(folder), **(env or {})},
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    @property
    def workers(self) -> list[int]:
        """The processes that it runs."""
        return sorted(child.pid for child in psutil.Process(self.process.pid).children())

    def wait_until_ready(self) -> None:
        """Wait for the line that says so."""
        self.wait_until(lambda: "is ready on" in self.log)
        found = re.search(r"is ready on [^ ]+:(\d+)", self.log)
        assert found, self.log
        self.port = int(found[1])

    def wait_until(self, condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait for something while the server runs."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, self.log[-3000:]
            assert time.monotonic() < end, self.log[-3000:]
            time.sleep(0.02)

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30.0) -> int:
        """Send it a signal, wait for its end, and return its status."""
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def server_process(folder: Path, *options: str, env: Mapping[str, str] | None = None) -> Iterator[ServerProcess]:
    """A server for the length of a block, which does not wait for it to be ready."""
    server = ServerProcess(folder, *options, env=env)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGTERM)
            server.end(signal.SIGKILL)


def make_key(folder: Path) -> str:
    """A key that may do everything on the server of a folder."""

    async def make() -> str:
        async with opened_database(folder) as database:
            return (await ApiKeys(database=database, pepper=PEPPER).create("somebody", scopes.parse(["all"])))[0]

    return asyncio.run(make())


def fresh_channel(port: int) -> grpc.Channel:
    """A channel with a connection of its own, which may lead to another worker than the one before."""
    return grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)])


def gone(pids: Sequence[int], seconds: float = 20.0) -> bool:
    """Whether all these processes end in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _environment(folder: Path) -> dict[str, str]:
    return {
        "ML_PLATFORM_STORE__URL": f"sqlite+aiosqlite:///{folder}/store.db",
        "ML_PLATFORM_STORE__KEY_PEPPER": PEPPER,
        "ML_PLATFORM_MLFLOW__TRACKING_URI": _NOWHERE,
        "ML_PLATFORM_AIRFLOW__API_URL": _NOWHERE,
        "ML_PLATFORM_BENTOML__URL": _NOWHERE,
        "ML_PLATFORM_FEAST__CONFIG_PATH": str(folder / "feature_store.yaml"),
        "ML_PLATFORM_SERVING__MODEL_CACHE": str(folder / "models"),
        "MLFLOW_TRACKING_URI": "",
    }
