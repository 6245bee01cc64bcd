"""The local stack as a person uses it: keys, what is open to others, and services that die."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deploy.local import processes
from ml_platform import MLPlatform, PermissionDenied
from tests.support.stack import Stack

pytestmark = pytest.mark.stack


def until(condition: Callable[[], object], *, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def keys(stack: Stack, tmp_path: Path, *arguments: str) -> str:
    """What `ml-platform-server keys` prints in a shell with what `make env` prints."""
    command = [str(Path(sys.executable).parent / "ml-platform-server"), "keys", *arguments]
    environment = {**os.environ, **stack.environment}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_key_commands_find_the_store(stack: Stack, tmp_path: Path) -> None:
    """A key that the command line makes opens what its scopes allow, is listed and revoked; no other store comes into being."""
    key = keys(stack, tmp_path, "create", "--principal", "ann", "--scope", "models:read").strip()
    with MLPlatform(api_url=stack.api_url, api_key=key) as platform:
        platform.list_models()
        with pytest.raises(PermissionDenied):
            platform.list_experiments()
    key_id = key.split("_")[1]
    assert f"{key_id}  ann  valid  models:read" in keys(stack, tmp_path, "list")
    keys(stack, tmp_path, "revoke", key_id)
    assert f"{key_id}  ann  revoked" in keys(stack, tmp_path, "list")
    assert list(tmp_path.iterdir()) == []


def test_nothing_listens_for_other_machines(stack: Stack) -> None:
    """Every port of every process is on the loopback interface."""
    ours = {process.pid for process in processes.marked(stack.folder)}
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")  # IPv4 in the words of IPv6.
        for connection in psutil.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.pid in ours
    }
    assert addresses == {"127.0.0.1"}


def test_secrets_are_their_owners_alone(stack: Stack) -> None:
    """The folder is closed, and so is every file in it that holds a secret."""
    assert stack.state.stat().st_mode & 0o077 == 0
    names = ("credentials.json", "server/key_pepper", "postgres/pgpass", "postgres/password", "airflow/passwords.json")
    assert [name for name in names if (stack.state / name).stat().st_mode & 0o077] == []


@pytest.mark.parametrize("service", ["mlflow", "airflow-scheduler", "postgres"])
def test_what_is_killed_comes_back(stack: Stack, platform: MLPlatform, service: str) -> None:
    """A killed main process, whose workers may go on, is followed by a whole service without anybody's help."""
    before = stack.process(service)
    psutil.Process(before.pid).kill()
    until(lambda: stack.process(service).restarts > before.restarts)
    until(lambda: not stack.troubles())
    until(lambda: all(backend.status == "healthy" for backend in platform.health().backends))
