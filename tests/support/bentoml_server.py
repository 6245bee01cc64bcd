"""A real BentoML process that serves deploy/bentoml, and a registry of real models for it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0


@contextmanager
def bentoml_server(folder: Path, tracking_uri: str) -> Iterator[str]:
    """Run the service until the end of the block; gives its URL. Its log is in the folder."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (folder / "bentoml.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bentoml", "serve", "service:ModelRunner"),
                *("--working-dir", str(ROOT / "deploy" / "bentoml"), "--host", "127.0.0.1", "--port", str(port)),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ
            | {"MLFLOW_TRACKING_URI": tracking_uri, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")},
        )
        try:
            _wait(process, url, folder / "bentoml.log")
            yield url
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", timeout=2.0).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"BentoML did not start:\n{log.read_text()[-4000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and what it started: they are a process group of their own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(20)
