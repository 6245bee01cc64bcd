"""Values that were written under an earlier definition of their view, and values that are computed from stored ones."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import Cell, OnlineFeatures, OnlinePlan
from ml_platform_server.backends.feast.plan import listed
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import FeastProject, is_direct, make_project
from tests.support.feast_requests import NULL, OLD, PRESENT, UNKNOWN, asked, pushed, user_view

VALUES: dict[str, object] = {
    "STRING": "text",
    "INT32": 5,
    "INT64": 5,
    "FLOAT": 0.5,
    "DOUBLE": 0.5,
    "BOOL": True,
    "TIMESTAMP": "2024-05-06T07:08:09Z",
    "BYTES": "AAE=",
    "STRING_LIST": ["a"],
    "INT64_LIST": [1],
    "FLOAT_LIST": [0.5],
    "DOUBLE_LIST": [0.5],
}
"""A value of each type, as a request holds it."""


def view_of(name: str, type_: str, path: str, key: str = "STRING") -> pb.FeatureView:
    """A view with one feature, x, of this type."""
    return user_view(
        name=name,
        entities=[{"name": f"{name}_{key}", "join_key": "k", "value_type": f"VALUE_TYPE_{key}"}],
        features=[{"name": "x", "value_type": f"VALUE_TYPE_{type_}"}],
        source={"path": path, "timestamp_field": "event_timestamp"},
    )


async def every_way(online: OnlineFeatures, plan: OnlinePlan, key: object) -> list[tuple[object, int]]:
    """The plan's only value, with its status, by each way to read it."""
    found: list[tuple[object, int]] = []
    for way in (plan, dataclasses.replace(plan, kept=None)):
        ((cell,),) = await online.read(way, [{"k": key}])
        (column,) = await online.read_columns(way, {"k": [key]}, 1)
        found += [(cell.value, cell.status), (listed(column.values)[0], column.statuses[0])]
    return found


@pytest.fixture(name="empty")
def empty_fixture(feast_project: FeastProject) -> Any:
    """Makes the file of a view whose x is of some type, and has no values."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def made(name: str, key: pa.DataType) -> str:
        path = feast_project.folder / f"{name}.parquet"
        columns = {"k": pa.array([], key), "x": pa.nulls(0), "event_timestamp": pa.array([], pa.timestamp("us", "UTC"))}
        pq.write_table(pa.table(columns), path)
        return str(path)

    return made


class TestRedefinedViews:
    async def test_a_registration_is_seen_at_once_by_the_server_that_made_it(
        self, views: FeatureViews, online: OnlineFeatures, feast_project: FeastProject, empty: Any
    ) -> None:
        """Though its cached registry had the earlier definition: by reads, by pushes, and by plans that were made before."""
        import pyarrow as pa

        name = "seen_at_once"
        path = empty(name, pa.string())
        await views.register(view_of(name, "DOUBLE", path))
        before = await online.plan(features=[name])
        feast_project.store().delete_feature_view(name)
        made = await views.register(view_of(name, "INT64", path))
        assert await views.get(name) == made
        assert made in (await views.list(1000))[0]
        assert before.kept is not None
        assert [feature.value_type for feature in before.kept.plan.features] == [pb.VALUE_TYPE_INT64]
        assert (await views.push(pushed(name, {"k": "a", "x": 5}))).row_count == 1
        (vector,) = (await online.get(asked([{"k": "a"}], [name]))).vectors
        assert vector.features[0].status == PRESENT
        assert (await every_way(online, await online.plan(features=[name]), "a")) == [(5, PRESENT)] * 4

    @pytest.mark.parametrize(("old", "new"), [*zip(VALUES, [*list(VALUES)[1:], "STRING"], strict=True), ("DOUBLE", "STRING")])
    async def test_a_value_of_the_earlier_type_is_not_found(
        self,
        feast_backend: FeastBackend,
        views: FeatureViews,
        online: OnlineFeatures,
        feast_project: FeastProject,
        empty: Any,
        old: str,
        new: str,
    ) -> None:
        """After the view was deleted and registered again, by plans made before and after; what is pushed then is found."""
        import pyarrow as pa

        name = f"redefined_{old}_{new}".lower()
        path = empty(name, pa.string())
        await views.register(view_of(name, old, path))
        await views.push(pushed(name, {"k": "a", "x": VALUES[old]}, {"k": "b", "x": None}))
        before = await online.plan(features=[name])
        assert is_direct(before)
        assert [status for _, status in await every_way(online, before, "a")] == [PRESENT] * 4
        store = feast_project.store()
        store.delete_feature_view(name)
        await feast_backend.refresh()
        await views.register(view_of(name, new, path))
        await feast_backend.refresh()
        after = await online.plan(features=[name])
        for plan in (before, after):
            # A plan that is left to Feast for good keeps the types that it was made with.
            ways = await every_way(online, plan, "a")
            assert ways[:2] == [(None, UNKNOWN)] * 2
            assert is_direct(plan)
        assert await every_way(online, after, "a") == [(None, UNKNOWN)] * 4
        (vector,) = (await online.get(asked([{"k": "a"}], [name]))).vectors
        assert vector.features[0].status == UNKNOWN
        assert not vector.features[0].HasField("event_time")
        await views.push(pushed(name, {"k": "a", "x": VALUES[new]}))
        assert [status for _, status in await every_way(online, after, "a")] == [PRESENT] * 4
        assert [status for _, status in (await every_way(online, before, "a"))[:2]] == [PRESENT] * 2
        assert {status for _, status in await every_way(online, after, "b")} == {NULL}

    async def test_a_key_of_the_earlier_type_finds_nothing(
        self,
        feast_backend: FeastBackend,
        views: FeatureViews,
        online: OnlineFeatures,
        feast_project: FeastProject,
        empty: Any,
    ) -> None:
        """By plans made before and after: 7 is another entity than "7"."""
        import pyarrow as pa

        await views.register(view_of("rekeyed", "DOUBLE", empty("rekeyed", pa.string())))
        await views.push(pushed("rekeyed", {"k": "7", "x": 0.5}))
        before = await online.plan(features=["rekeyed"])
        assert [cell for cell, _ in await every_way(online, before, "7")] == [0.5] * 4
        feast_project.store().delete_feature_view("rekeyed")
        await feast_backend.refresh()
        await views.register(view_of("rekeyed", "DOUBLE", empty("rekeyed", pa.int64()), key="INT64"))
        await feast_backend.refresh()
        after = await online.plan(features=["rekeyed"])
        assert (await every_way(online, before, "7"))[:2] == [(None, UNKNOWN)] * 2
        assert await every_way(online, after, 7) == [(None, UNKNOWN)] * 4
        await views.push(pushed("rekeyed", {"k": 7, "x": 1.5}))
        assert [value for value, _ in (await every_way(online, before, "7"))[:2]] == [1.5] * 2
        assert [value for value, _ in await every_way(online, after, 7)] == [1.5] * 4


DEFINITIONS = """
thing = Entity(name="thing", join_keys=["thing_id"], value_type=ValueType.STRING)
thing_id = Field(name="thing_id", dtype=String)
quick = FeatureView(name="quick", entities=[thing], ttl=timedelta(hours=1), schema=[thing_id, Field(name="x", dtype=Float64)])
slow = FeatureView(name="slow", entities=[thing], ttl=timedelta(days=1), schema=[thing_id, Field(name="y", dtype=Float64)])
sent = RequestSource(name="sent", schema=[Field(name="z", dtype=Float64)])
@on_demand_feature_view(sources=[quick, slow], schema=[Field(name="sum", dtype=Float64), Field(name="filled", dtype=Float64)])
def both(inputs):
    found = inputs[["x"]].rename(columns={"x": "sum"})
    found["sum"] = inputs["x"] + inputs["y"]
    found["filled"] = inputs["x"].fillna(-1.0)
    return found
@on_demand_feature_view(sources=[sent], schema=[Field(name="doubled", dtype=Float64)])
def only_sent(inputs):
    return inputs[["z"]].rename(columns={"z": "doubled"}) * 2
store.apply([thing, quick, slow, sent, both, only_sent])
store.apply([FeatureService(name="scoring", features=[both, slow])])
"""
NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture(scope="module", name="computing")
def computing_fixture(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
    """Two stored views of different ttl, and a view that is computed from both."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    project = make_project("computed", tmp_path_factory.mktemp("computed"), valkey_port)
    project.apply(DEFINITIONS)
    store = project.store()

    def write(view: str, rows: Mapping[str, tuple[Value, timedelta]]) -> None:
        feature = "x" if view == "quick" else "y"
        written = [
            (EntityKey(join_keys=["thing_id"], entity_values=[Value(string_val=key)]), {feature: value}, NOW - age, None)
            for key, (value, age) in rows.items()
        ]
        store.provider.online_write_batch(store.config, store.get_feature_view(view), written, None)

    fresh, one, null = timedelta(seconds=1), Value(double_val=1.0), Value()
    minute, days = timedelta(minutes=1), timedelta(days=3)
    quick = {"fresh": (one, fresh), "expired": (one, 61 * minute), "null": (null, fresh), "both": (one, days)}
    write("quick", quick | {"old null": (null, days), "redefined": (Value(int64_val=1), fresh), "half": (one, fresh)})
    write("slow", {key: (one, timedelta(seconds=30)) for key in ("fresh", "expired", "null", "old null", "redefined")})
    write("slow", {"both": (one, timedelta(days=2))})
    return project


class TestComputedFeatures:
    @pytest.fixture
    async def online(self, computing: FeastProject) -> AsyncIterator[OnlineFeatures]:
        """Its online features."""
        backend = FeastBackend(settings=FeastSettings(config_path=computing.config_path, registry_ttl=1000))
        await backend.open()
        yield OnlineFeatures(backend=backend)
        await backend.close()

    def cells(
        self, plan: OnlinePlan, rows: Sequence[Sequence[Cell]], feature: str
    ) -> dict[str, tuple[object, int, float | None]]:
        """What was read of one feature, by the entity."""
        place = [each.name for each in plan.features].index(feature)
        return {key: (row[place].value, row[place].status, row[place].event_time) for key, row in zip(KEYS, rows, strict=True)}

    @pytest.mark.parametrize("source", [{"features": ["both"]}, {"feature_service": "scoring"}, {"features": ["slow", "both"]}])
    async def test_a_computed_value_is_as_old_as_its_oldest_input(self, online: OnlineFeatures, source: dict[str, Any]) -> None:
        """And it is stale if one of them is, null if it is null though all of them are known, and unknown if one is unknown."""
        plan = await online.plan(**source)
        rows = await online.read(plan, [{"thing_id": key} for key in KEYS])
        seconds = NOW.timestamp()
        assert self.cells(plan, rows, "sum") == {
            "fresh": (2.0, PRESENT, seconds - 30),
            "expired": (2.0, OLD, seconds - 3660),
            "null": (None, NULL, seconds - 30),
            "both": (2.0, OLD, seconds - 3 * 86_400),
            "old null": (None, NULL, seconds - 3 * 86_400),
            "redefined": (None, UNKNOWN, None),
            "half": (None, UNKNOWN, None),
            "nobody": (None, UNKNOWN, None),
        }
        filled = self.cells(plan, rows, "filled")
        assert filled["null"] == (-1.0, PRESENT, seconds - 30)
        assert filled["old null"] == (-1.0, OLD, seconds - 3 * 86_400)
        assert filled["half"] == (1.0, PRESENT, seconds - 1)
        assert filled["nobody"] == (-1.0, PRESENT, None)
        request = asked([{"thing_id": key} for key in KEYS], source.get("features"), source.get("feature_service", ""))
        told = [vector.features[-1 if "features" in source else 0] for vector in (await online.get(request)).vectors]
        assert [each.status for each in told][:2] == [PRESENT, OLD]
        assert told[1].event_time.ToSeconds() == seconds - 3660

    async def test_what_is_computed_from_the_request_alone_has_no_age(self, online: OnlineFeatures) -> None:
        """It is there."""
        plan = await online.plan(features=["only_sent"])
        ((cell,),) = await online.read(plan, [{"z": 2.0}])
        assert cell == Cell(4.0, PRESENT, None)


KEYS = ["fresh", "expired", "null", "both", "old null", "redefined", "half", "nobody"]
