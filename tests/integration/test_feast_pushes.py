"""Pushes into a real Valkey and a real SQLite: the newest row wins, a correction wins, and the counts are true."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.backends.feast.writes import conditional
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import SQLITE_CONFIG, FeastProject, OneProcess, make_project
from tests.support.feast_requests import asked, told, user_view

NOW = datetime.now(UTC).replace(microsecond=250_000)


@pytest.fixture(params=["valkey", "sqlite"])
def store(request: pytest.FixtureRequest) -> str:
    """Which online store the project has."""
    return str(request.param)


@pytest.fixture
async def backend(store: str, tmp_path: Path, valkey_port: int) -> AsyncIterator[FeastBackend]:
    """A project of its own on that store."""
    project = make_project("pushes", tmp_path, valkey_port)
    if store == "sqlite":
        project.config_path.write_text(SQLITE_CONFIG.format(name="pushes", folder=tmp_path))
    project.write_history("users.parquet", event_timestamp=["2024-01-01"], user_id=["u"], total=[1], average=[1.5])
    backend = FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=1000))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
async def house(backend: FeastBackend) -> House:
    """A registered view, ready for pushes."""
    house = House(backend)
    house.view = (await house.views.register(user_view(ttl="0s"))).name
    return house


class House:
    """A view, what pushes to it, and what reads from it."""

    def __init__(self, backend: FeastBackend) -> None:
        self.views = FeatureViews(backend=backend, locks=OneProcess())
        self.online = OnlineFeatures(backend=backend)
        self.view = ""

    async def push(self, *rows: tuple[str, float, datetime | None]) -> pb.PushFeaturesResponse:
        """Push rows, each a user, a total and a time."""
        request = pb.PushFeaturesRequest(feature_view=self.view)
        for user, total, at in rows:
            row = request.rows.add()
            row.values.update({"user_id": user, "total": total, "average": None})
            if at is not None:
                row.event_time.FromDatetime(at)
        return await self.views.push(request)

    async def read(self, *users: str) -> list[object]:
        """The total of each user."""
        return [row[0][0] for row in told(await self.online.get(asked([*users], [f"{self.view}:total"])))]


def skipped(response: pb.PushFeaturesResponse) -> list[tuple[int, datetime]]:
    """The rows that were not written, each with the time that won."""
    return [(row.index, row.newer_time.ToDatetime(UTC)) for row in response.skipped_rows]


async def test_a_correction_of_the_same_time_wins(house: House) -> None:
    """The second row of the same event time replaces the first, as often as it comes."""
    for total in (1.0, 2.0, 1.0):
        response = await house.push(("a", total, NOW))
        assert (response.row_count, response.skipped_count, await house.read("a")) == (1, 0, [total])


async def test_an_older_row_is_counted_as_skipped(house: House) -> None:
    """The response has its index and the time that the store keeps; the rows around it are written."""
    await house.push(("a", 1, NOW))
    hour = timedelta(hours=1)
    response = await house.push(("b", 2, NOW - hour), ("a", 3, NOW - hour), ("c", 4, NOW))
    [(index, newer)] = skipped(response)
    assert (response.row_count, response.skipped_count, index) == (2, 1, 1)
    assert newer.replace(microsecond=0) == NOW.replace(microsecond=0)
    assert await house.read("a", "b", "c") == [1, 2, 4]


async def test_of_one_push_the_newest_row_of_an_entity_is_written(house: House) -> None:
    """Of two with the same time the last one, wherever older ones stand; the others count as skipped."""
    hour = timedelta(hours=1)
    response = await house.push(
        ("a", 1, NOW), ("a", 2, NOW - hour), ("a", 3, NOW - 2 * hour), ("a", 4, NOW), ("b", 5, NOW - hour)
    )
    assert (response.row_count, response.skipped_count) == (2, 3)
    assert skipped(response) == [(0, NOW), (1, NOW), (2, NOW)]
    assert await house.read("a", "b") == [4, 5]


async def test_of_rows_without_times_the_last_one_wins(house: House) -> None:
    """They all have the time of the push."""
    response = await house.push(*(("a", number, None) for number in range(10)))
    assert (response.row_count, response.skipped_count, await house.read("a")) == (1, 9, [9])


async def test_a_row_ahead_of_now_makes_later_pushes_count_as_skipped(house: House) -> None:
    """Nobody is let believe that the later row was written."""
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=23)
    assert (await house.push(("a", 1, ahead))).row_count == 1
    response = await house.push(("a", 2, None))
    assert (response.row_count, skipped(response), await house.read("a")) == (0, [(0, ahead)], [1])


async def test_times_before_1970_are_compared_too(house: House) -> None:
    """A newer row replaces one of 1960, an older one does not replace one of the time 0."""
    old, zero = datetime(1960, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC)
    assert (await house.push(("a", 1, old))).row_count == 1
    assert (await house.push(("a", 2, old - timedelta(days=1)))).skipped_count == 1
    assert (await house.push(("a", 3, zero))).row_count == 1
    assert (await house.push(("a", 4, zero - timedelta(seconds=1)))).skipped_count == 1
    assert (await house.push(("a", 5, zero))).row_count == 1
    assert await house.read("a") == [5]


async def test_many_pushes_of_one_entity_at_once_never_lose_the_newest(house: House) -> None:
    """Fifty pushes in any order, in twenty rounds; what each response says it wrote and skipped comes to fifty."""
    order = random.Random(5)
    for round_number in range(20):
        user, numbers = f"u{round_number}", list(range(50))
        order.shuffle(numbers)
        responses = await asyncio.gather(*(house.push((user, n, NOW + timedelta(seconds=n))) for n in numbers))
        assert await house.read(user) == [49]
        newest = responses[numbers.index(49)]
        assert (newest.row_count, newest.skipped_count) == (1, 0)
        assert all(response.row_count + response.skipped_count == 1 for response in responses)


class TestValkey:
    """What only this store keeps."""

    @pytest.fixture
    def store(self) -> str:
        """The one of these tests."""
        return "valkey"

    async def test_times_that_differ_in_microseconds_only_are_told_apart(self, house: House) -> None:
        """Feast's layout keeps nanoseconds."""
        tick = timedelta(microseconds=1)
        await house.push(("a", 1, NOW))
        assert skipped(await house.push(("a", 2, NOW - tick))) == [(0, NOW)]
        assert (await house.push(("a", 3, NOW + tick))).row_count == 1
        assert await house.read("a") == [3]

    async def test_many_rows_of_many_entities_at_once(self, house: House) -> None:
        """More than go in one pipeline, from pushes that overlap: each entity keeps its newest row."""
        users = [f"user-{number}" for number in range(2500)]
        responses = await asyncio.gather(
            *(house.push(*((user, n, NOW + timedelta(seconds=n)) for user in users)) for n in (3, 1, 4, 2))
        )
        assert {response.row_count + response.skipped_count for response in responses} == {2500}
        assert responses[2].row_count == 2500
        assert set(await house.read(*users[:900])) == {4}

    @pytest.mark.parametrize("ttl", [None, 3600])
    def test_rows_are_stored_byte_for_byte_as_feast_stores_them(
        self, feast_project: FeastProject, valkey_port: int, ttl: int | None
    ) -> None:
        """Keys, field names, values, times and the hash's own expiry; wide views and rows without values too."""
        from feast import Entity, FeatureView, Field, FileSource, ValueType
        from feast.types import Float64, Int64
        from redis import Redis

        names = [f"f{number}" for number in range(1200)]
        users = Entity(name="wide_user", join_keys=["user_id"], value_type=ValueType.INT64)
        source = FileSource(
            name="wide_source", path=str(feast_project.folder / "users.parquet"), timestamp_field="event_timestamp"
        )
        fields = [Field(name=name, dtype=Float64) for name in names]
        view = FeatureView(name="wide", entities=[users], schema=[*fields, Field(name="user_id", dtype=Int64)], source=source)
        store, client = feast_project.store(), Redis(port=valkey_port)
        stored: Any = client.keys
        store.config.online_store.key_ttl_seconds = ttl
        rows = [
            (EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=key)]), dict.fromkeys(names, value), at, None)
            for key, value, at in ((1, Value(double_val=0.5), NOW), (-2, Value(), NOW + timedelta(microseconds=7)))
        ]
        found = []
        for write in (
            lambda: store.provider.online_write_batch(store.config, view, rows, None),
            lambda: conditional.write(store, view, rows),
        ):
            before = set(stored())
            write()
            made = sorted(set(stored()) - before)
            assert len(made) == 2
            found.append([(key, client.hgetall(key), client.ttl(key) > 0) for key in made])
            client.delete(*made)
        assert found[0] == found[1]
        assert found[0][0][2] is (ttl is not None)


class TestSqlite:
    """What this store does not keep."""

    @pytest.fixture
    def store(self) -> str:
        """The one of these tests."""
        return "sqlite"

    async def test_within_one_second_the_last_push_wins(self, house: House) -> None:
        """Feast keeps whole seconds there, so rows of the same second are of the same time."""
        await house.push(("a", 1, NOW))
        assert (await house.push(("a", 2, NOW - timedelta(microseconds=1)))).row_count == 1
        assert await house.read("a") == [2]
