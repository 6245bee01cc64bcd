"""A real PostgreSQL, started once per test session, with an empty schema for each test that asks for one."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest

from deploy.local.config import DEFAULT_PORTS, StackConfig
from deploy.local.launch import Step
from deploy.local.layout import Layout, Service
from deploy.local.preparation import Preparation, database_steps
from deploy.local.progress import Progress
from deploy.local.services import postgres
from deploy.local.stack import Stack
from tests.support.frame import sqlite_url

_PREPARATION_SECONDS = 120.0
_numbers = count()


class PostgresServer:
    """A running server of a stack that consists of PostgreSQL alone."""

    def __init__(self, stack: Stack) -> None:
        self._url = postgres.url(stack.layout(), "platform")

    def execute(self, statement: str) -> None:
        """Execute a statement outside of a transaction."""
        with psycopg.connect(self._url.replace("+psycopg", "", 1), autocommit=True, connect_timeout=60) as connection:
            connection.execute(statement.encode())

    def create_schema(self) -> str:
        """Create an empty schema, which takes far less time than a database, and return its name."""
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return name

    def url(self, schema: str) -> str:
        """The SQLAlchemy URL under which a schema looks like a database of its own."""
        return f"{self._url}&options=-csearch_path%3D{schema}"


def postgres_alone(layout: Layout) -> dict[str, Service]:
    """The services of a stack that consists of PostgreSQL alone."""
    return {"postgres": postgres.service(layout)}


def prepare_postgres(layout: Layout, **_rest: object) -> list[Step]:
    """The steps that come before and after PostgreSQL starts, without the platform's own tables."""
    preparation = Preparation(layout, timeout=_PREPARATION_SECONDS, cancelled=threading.Event())
    return [step for step in database_steps(preparation) if step.name != "store"]


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One server for all tests, started as the local stack starts it, also as root."""
    folder = tmp_path_factory.mktemp("postgres")
    stack = Stack(folder, progress=Progress(io.StringIO()), describe=postgres_alone, prepare=prepare_postgres, supervised=False)
    try:
        stack.up(StackConfig(state=folder, ports=dict.fromkeys(DEFAULT_PORTS, 0)))
        server = PostgresServer(stack)
        # No test needs its data after a power cut, and waiting for the disk takes most of the time.
        server.execute("ALTER SYSTEM SET fsync = off")
        server.execute("SELECT pg_reload_conf()")
        yield server
    finally:
        stack.down()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty store that no other test uses."""
    schema = postgres_server.create_schema()
    yield postgres_server.url(schema)
    postgres_server.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, once in SQLite and once in PostgreSQL."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    url: str = request.getfixturevalue("postgres_url")
    return url
