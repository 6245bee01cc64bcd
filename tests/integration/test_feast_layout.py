"""Reads without Feast, in its own layout on a real Valkey, beside Feast's own reads of the same."""

from __future__ import annotations

import dataclasses
import math
import random
import string
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import Cell, OnlineFeatures, OnlinePlan
from ml_platform_server.backends.feast.plan import by_column, listed
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import FeastProject, is_direct, make_project
from tests.support.feast_requests import NULL, PRESENT, UNKNOWN

DEFINITIONS = """
from feast.types import Array
place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)
small = Entity(name="small", join_keys=["small_id"], value_type=ValueType.INT32)
raw = Entity(name="raw", join_keys=["raw_id"], value_type=ValueType.BYTES)
carrier = Entity(name="carrier", join_keys=["carrier_id"], value_type=ValueType.STRING)
KINDS = dict(string=String, int32=Int32, int64=Int64, float=Float32, double=Float64, bool=Bool, timestamp=UnixTimestamp,
    bytes=Bytes, strings=Array(String), int64s=Array(Int64), floats=Array(Float32), doubles=Array(Float64), bools=Array(Bool))
values = [Field(name=name, dtype=dtype) for name, dtype in KINDS.items()]
def view(name, entities, *columns, ttl=1):
    return FeatureView(name=name, entities=entities, ttl=timedelta(days=ttl), schema=[*columns, *values])
place_id, small_id = Field(name="place_id", dtype=Int64), Field(name="small_id", dtype=Int32)
raw_id, carrier_id = Field(name="raw_id", dtype=Bytes), Field(name="carrier_id", dtype=String)
carriers, more = view("carriers", [carrier], carrier_id), view("more", [carrier], carrier_id, ttl=0)
places, lanes = view("places", [place], place_id), view("lanes", [place, carrier], place_id, carrier_id)
smalls, raws = view("smalls", [small], small_id), view("raws", [raw], raw_id)
world = FeatureView(name="world", schema=[Field(name="rate", dtype=Float64)])
sent = RequestSource(name="sent", schema=[Field(name="extra", dtype=Float64)])
@on_demand_feature_view(sources=[places[["double"]], sent], schema=[Field(name="raised", dtype=Float64)])
def raised(inputs):
    return inputs[["extra"]].rename(columns={"extra": "raised"}) * 2
store.apply([place, small, raw, carrier, carriers, more, places, lanes, smalls, raws, world, sent, raised])
def renamed(name):
    return places.with_name(name).with_join_key_map({"place_id": f"{name}_id"})
store.apply([
    FeatureService(name="route", features=[renamed("origin"), renamed("target")[["double", "string"]], lanes, more[["int64"]]]),
    FeatureService(name="raising", features=[raised]),
])
"""
ENTITY = {"carriers": ["carrier_id"], "more": ["carrier_id"], "places": ["place_id"], "lanes": ["place_id", "carrier_id"]}
ENTITY |= {"smalls": ["small_id"], "raws": ["raw_id"]}
# For each key what is stored, and beside it what is not.
KEYS: dict[str, list[Any]] = {
    "carrier_id": ["a", "b c", "größe", "数据🙂", "x" * 200, "12", "line\r\nend", "nobody"],
    "place_id": [0, 1, -1, 2**31, 2**63 - 1, -(2**63), 404],
    "small_id": [0, 7, -7, 2**31 - 1, -(2**31), 404],
    "raw_id": [b"a", bytes(range(256)), b"\r\n", b"nobody"],
}
KEYS |= {"origin_id": KEYS["place_id"], "target_id": KEYS["place_id"]}
NOW = datetime.now(UTC).replace(microsecond=123456)


def one_of_each_type(chance: random.Random) -> dict[str, Any]:
    """A value of every type, each perhaps missing."""
    text = "".join(chance.choices(string.printable + "äß数🙂", k=chance.choice([0, 3, 126, 127, 128, 400])))
    whole = chance.choice([0, 1, -1, 127, 128, 16_383, 16_384, chance.randrange(2**31)])
    wide = chance.choice([whole, 2**56 - 1, 2**56, 2**63 - 1, -(2**63)])
    number = chance.choice([0.0, -0.0, 0.1, math.nan, math.inf, chance.uniform(-1e9, 1e9)])
    some = {
        "string": text, "int32": whole, "int64": wide, "float": number, "double": number, "bool": chance.random() < 0.5,
        "timestamp": NOW - timedelta(seconds=chance.randrange(10**9)), "bytes": text.encode(), "strings": [text, ""],
        "int64s": [wide, whole], "floats": [0.1, number], "doubles": [number], "bools": [True, False],
    }  # fmt: skip
    return {
        name: None if chance.random() < 0.15 else chance.choice([value, [] if isinstance(value, list) else value])
        for name, value in some.items()
    }


def fill(project: FeastProject) -> None:
    """Write rows of all sorts and ages, by Feast's own hand."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value
    from feast.type_map import python_values_to_proto_values

    store, chance = project.store(), random.Random(7)
    for name, keys in ENTITY.items():
        view = store.get_feature_view(name)
        types = {field.name: field.dtype.to_value_type() for field in [*view.features, *view.entity_columns]}

        def proto(column: str, value: object, types: dict[str, Any] = types) -> Value:
            found: Value = python_values_to_proto_values([value], types[column])[0] if value is not None else Value()
            return found

        rows = []
        for at in range(len(KEYS[keys[0]]) - 1):
            key = EntityKey(join_keys=keys, entity_values=[proto(k, KEYS[k][min(at, len(KEYS[k]) - 2)]) for k in keys])
            age = chance.choice([timedelta(), timedelta(hours=1), timedelta(days=3), NOW - datetime(1960, 1, 1, tzinfo=UTC)])
            values = {column: proto(column, value) for column, value in one_of_each_type(chance).items()}
            rows.append((key, values, NOW - age, None))
        store.provider.online_write_batch(store.config, view, rows, None)
    world = EntityKey(join_keys=["__dummy_id"], entity_values=[Value(string_val="")])
    store.provider.online_write_batch(
        store.config, store.get_feature_view("world"), [(world, {"rate": Value(double_val=0.5)}, NOW, None)], None
    )


def rows_for(plan: OnlinePlan, count: int, chance: random.Random) -> list[dict[str, object]]:
    """Random keys, some of which are not in the store, in the types that they may come in."""
    rows: list[dict[str, object]] = [{key.name: chance.choice(KEYS[key.name]) for key in plan.join_keys} for _ in range(count)]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int):
                row[name] = chance.choice([value, str(value), float(value) if abs(value) < 2**53 else value])
            elif value == "12":
                row[name] = chance.choice(["12", 12, 12.0])
    return rows


def by_feast(plan: OnlinePlan) -> OnlinePlan:
    """The same plan, for Feast's own read."""
    return dataclasses.replace(plan, kept=None)


def comparable(cells: list[list[Cell]]) -> list[list[str]]:
    """With the types told apart, and with what is not a number equal to itself."""
    return [[repr(tuple(cell)) for cell in row] for row in cells]


@pytest.fixture(scope="module", name="project")
def project_fixture(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
    """Views of every type and of every kind of key, with values in them."""
    project = make_project("layout", tmp_path_factory.mktemp("layout"), valkey_port)
    project.apply(DEFINITIONS)
    fill(project)
    return project


@pytest.fixture(name="backend")
async def backend_fixture(project: FeastProject) -> AsyncIterator[FeastBackend]:
    """The door to it."""
    backend = FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=1000))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture(name="online")
def online_in_layout_fixture(backend: FeastBackend) -> OnlineFeatures:
    """Its online features."""
    return OnlineFeatures(backend=backend)


ASKED = pytest.mark.parametrize(
    "asked",
    [
        {"features": ["carriers"]},
        {"features": ["more:int64", "carriers:double", "more:string", "carriers:bool"]},
        {"features": ["places:timestamp", "lanes", "carriers", "places:int64"]},
        {"features": ["smalls"]},
        {"features": ["raws"]},
        {"features": ["world:rate"]},
        {"features": ["world:rate", "smalls:double"]},
        {"feature_service": "route"},
    ],
    ids=lambda asked: "+".join(str(word) for word in (asked.get("features") or [asked["feature_service"]])),
)


class TestBothWays:
    @ASKED
    async def test_they_come_to_the_same(self, online: OnlineFeatures, asked: dict[str, Any]) -> None:
        """For every type, every age, and keys of every kind, known and unknown, alone and in batches."""
        plan, chance = await online.plan(**asked), random.Random(11)
        assert is_direct(plan)
        seen: set[int] = set()
        for count in (1, 2, 7, 32, 300):
            rows = rows_for(plan, count, chance)
            ours, theirs = await online.read(plan, rows), await online.read(by_feast(plan), rows)
            assert comparable(ours) == comparable(theirs)
            seen |= {cell.status for row in ours for cell in row}
        assert seen == {PRESENT} if asked == {"features": ["world:rate"]} else seen >= {PRESENT, NULL, UNKNOWN}

    @ASKED
    async def test_columns_hold_what_rows_hold(self, online: OnlineFeatures, asked: dict[str, Any]) -> None:
        """For the same reads, in the types of the keys, without Feast and by Feast."""
        plan, chance = await online.plan(**asked), random.Random(13)
        for count in (1, 32, 600):
            found = [tuple((key.name, chance.choice(KEYS[key.name])) for key in plan.join_keys) for _ in range(count)]
            rows = [dict(row) for row in dict.fromkeys(found)]
            keys = {key.name: [row[key.name] for row in rows] for key in plan.join_keys}
            expected = by_column(await online.read(plan, rows), len(plan.features))
            for way in (plan, by_feast(plan)):
                columns = await online.read_columns(way, keys, len(rows))
                for ours, theirs in zip(columns, expected, strict=True):
                    assert [repr(value) for value in listed(ours.values)] == [repr(value) for value in theirs.values]
                    assert list(ours.statuses) == list(theirs.statuses)

    async def test_rows_of_the_same_key_are_each_their_own(self, online: OnlineFeatures) -> None:
        """The store is asked once, and the rows share no list."""
        plan = await online.plan(features=["carriers"])
        first, second = await online.read(plan, [{"carrier_id": "a"}, {"carrier_id": "a"}])
        assert first == second
        assert first is not second

    async def test_a_registry_that_stays_as_it_is_leaves_the_plans_alone(self, backend: FeastBackend) -> None:
        """A refresh that brings nothing new derives nothing anew."""
        online = OnlineFeatures(backend=backend)
        await backend.refresh()
        plan = await online.plan(features=["carriers"])
        assert plan.kept is not None
        reader, generation = plan.kept.reader, backend.generation
        await backend.refresh()
        assert (plan.kept.reader, backend.generation) == (reader, generation)

    async def test_what_only_feast_can_compute_is_left_to_feast(self, online: OnlineFeatures) -> None:
        """Features on demand, and whatever else has no place in the layout."""
        plan = await online.plan(feature_service="raising")
        assert not is_direct(plan)
        ((cell,),) = await online.read(plan, [{"place_id": 404, "extra": 0.5}])
        assert cell.value == 1.0
