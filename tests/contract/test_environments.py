"""The client in environments of users: with the oldest libraries it allows and with the newest, with an extra and without."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ml_platform import rpcs
from ml_platform.v1 import errors_pb2, experiments_pb2
from ml_platform_server.errors import PlatformError
from tests.support.fake_platform import FakePlatform

ROOT = Path(__file__).resolve().parents[2]
UV = Path(sys.executable).with_name("uv")
USER = Path(__file__).with_name("user_of_the_client.py")


def use(environment: Path, *wanted: str) -> dict[str, Any]:
    """Install the client into an environment of its own, run a user's program there, and tell what it printed."""
    python = environment / "bin" / "python"
    _run(UV, "venv", "--quiet", "--python", sys.executable, environment)
    _run(UV, "pip", "install", "--quiet", "--python", python, *wanted)
    with FakePlatform() as fake:
        listed = experiments_pb2.ListExperimentsResponse(experiments=[experiments_pb2.Experiment(name="exp")])
        missing = PlatformError(errors_pb2.ERROR_REASON_EXPERIMENT_NOT_FOUND, "There is none.", remedy="List them.")
        fake.answer(rpcs.LIST_EXPERIMENTS, listed)
        fake.answer(rpcs.GET_EXPERIMENT, missing)
        output: dict[str, Any] = json.loads(_run(python, "-W", "error", USER, fake.url))
    return output


def test_the_client_works_with_the_oldest_libraries_it_allows(tmp_path: Path) -> None:
    """With the floors that its metadata name, protobuf 6.33.5 among them, the client imports, calls and reads errors."""
    told = use(tmp_path / "oldest", "--resolution", "lowest-direct", str(ROOT / "client"))
    assert told.pop("grpcio") == "1.76.0"
    assert told == {"names": ["exp"], "reason": "EXPERIMENT_NOT_FOUND", "frame": ["EXTRA_MISSING"], "protobuf": "6.33.5"}


@pytest.mark.parametrize("extra", ["", "[pandas]"])
def test_the_client_works_with_the_newest_libraries_it_allows(tmp_path: Path, extra: str) -> None:
    """With protobuf 7 the client does the same, and its extra brings what it needs."""
    told = use(tmp_path / "newest", f"{ROOT / 'client'}{extra}", "protobuf>=7")
    assert told["protobuf"].split(".")[0] == "7"
    assert told["reason"] == "EXPERIMENT_NOT_FOUND"
    assert told["frame"] == (["exp"] if extra else ["EXTRA_MISSING"])


def _run(*command: str | Path) -> str:
    # A path that another program set must not lead into this environment.
    clean = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=clean, cwd=USER.parent
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
