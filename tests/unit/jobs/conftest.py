"""A store of the test's own, and the jobs on top of stand-ins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from ml_platform_server.call import Call, Principal
from ml_platform_server.store.database import Database
from tests.support.frame import opened_database
from tests.support.jobs_house import House


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with opened_database(tmp_path) as database:
        yield database


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


@pytest.fixture
def call() -> Call:
    return Call(
        method="/test",
        correlation_id="call-1",
        context=cast("Any", None),
        deadline=float("inf"),
        principal=Principal(name="ada", key_id="k", scopes=frozenset()),
    )
