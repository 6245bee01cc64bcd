"""Every way to read features, held against one table of what is stored: on a real Valkey, by rows and by columns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import struct_pb2

from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import Cell, OnlineFeatures, OnlinePlan
from ml_platform_server.backends.feast.plan import Unreadable, by_column, listed
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.settings import FeastSettings
from ml_platform_server.struct_values import to_value
from tests.support.feast_project import FeastProject, is_direct, make_project
from tests.support.feast_requests import NULL, OLD, PRESENT, UNKNOWN, asked, user_view
from tests.support.refusals import refused

DEFINITIONS = """
thing = Entity(name="thing", join_keys=["thing_id"], value_type=ValueType.STRING)
place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)
KINDS = dict(string=String, int32=Int32, int64=Int64, float=Float32, double=Float64, bool=Bool, timestamp=UnixTimestamp,
    bytes=Bytes, strings=Array(String), int64s=Array(Int64), floats=Array(Float32), doubles=Array(Float64), bools=Array(Bool),
    timestamps=Array(UnixTimestamp))
values = [Field(name=name, dtype=dtype) for name, dtype in KINDS.items()]
def view(name, entity, key, days):
    return FeatureView(name=name, entities=[entity], ttl=timedelta(days=days), schema=[Field(name=key[0], dtype=key[1]), *values])
store.apply([thing, place, view("forever", thing, ("thing_id", String), 0), view("aging", thing, ("thing_id", String), 1),
    view("numbered", place, ("place_id", Int64), 1)])
"""
NOW = datetime.now(UTC).replace(microsecond=250_000)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = [NOW, NOW - timedelta(days=2), EPOCH, EPOCH - timedelta(seconds=0.25), datetime(1960, 1, 1, tzinfo=UTC)]
OTHER = object()
"""What a value reads as that is not of its feature's type."""

INFINITE = {"inf": struct_pb2.Value(string_value="Infinity"), "-inf": struct_pb2.Value(string_value="-Infinity")}
IN_LISTS = {**INFINITE, "nan": struct_pb2.Value(string_value="NaN")}


def at(seconds: int) -> datetime:
    """A point in time."""
    return EPOCH + timedelta(seconds=seconds)


def in_message(thing: object) -> struct_pb2.Value:
    """What a message tells for what was read: the numbers that JSON does not have are text, and only a NaN alone is a null."""
    if isinstance(thing, list):
        return struct_pb2.Value(
            list_value=struct_pb2.ListValue(values=[IN_LISTS.get(repr(item), in_message(item)) for item in thing])
        )
    return INFINITE.get(repr(thing), to_value(thing))


def table() -> dict[str, list[tuple[Any, object]]]:
    """For each kind of feature, values as Feast stores them and what they read as; OTHER if they are none of the feature's."""
    from feast.protos.feast.types import Value_pb2 as v

    value = v.Value
    single = float(v.Value(float_val=0.1).float_val)
    texts, wholes = value(string_list_val=v.StringList(val=["a", ""])), value(int64_list_val=v.Int64List(val=[1, -2]))
    null = (value(null_val=v.NULL), None)
    cells: dict[str, list[tuple[Any, object]]] = {
        "string": [(value(string_val=text), text) for text in ("", "text", "ü" * 63, "数据" * 90)],
        "int32": [(value(int32_val=each), each) for each in (0, -1, 2**31 - 1, -(2**31))],
        "int64": [(value(int64_val=each), each) for each in (0, -1, 2**53 + 1, 2**63 - 1, -(2**63))],
        "float": [(value(float_val=0.1), single), (value(float_val=math.inf), math.inf), (value(float_val=math.nan), None)],
        "double": [(value(double_val=each), each) for each in (0.0, -0.0, 0.1, -math.inf)] + [(value(double_val=math.nan), None)],
        "bool": [(value(bool_val=True), True), (value(bool_val=False), False)],
        "timestamp": [
            *((value(unix_timestamp_val=each), at(each)) for each in (0, -1, 1_700_000_000, -62_135_596_800, 253_402_300_799)),
            (value(unix_timestamp_val=-(2**63)), None),  # Feast's missing time
            (value(unix_timestamp_val=253_402_300_800), Unreadable("is outside of the years 1 to 9999")),
        ],
        "bytes": [(value(bytes_val=b""), b""), (value(bytes_val=b"\x00\xff" * 100), b"\x00\xff" * 100)],
        "strings": [(texts, ["a", ""]), (value(string_list_val=v.StringList()), [])],
        "int64s": [(wholes, [1, -2]), (value(int64_list_val=v.Int64List()), [])],
        "floats": [(value(float_list_val=v.FloatList(val=[0.5, math.nan])), [0.5, math.nan])],
        "doubles": [(value(double_list_val=v.DoubleList(val=[0.1])), [0.1]), (value(double_list_val=v.DoubleList()), [])],
        "bools": [(value(bool_list_val=v.BoolList(val=[True])), [True])],
        "timestamps": [(value(unix_timestamp_list_val=v.Int64List(val=[-1, -(2**63)])), [at(-1), None])],
    }  # fmt: skip
    others = {name: some[0][0] for name, some in cells.items()}
    return {
        name: [*some, (value(), None), null, *((other, OTHER) for kind, other in others.items() if kind != name)]
        for name, some in cells.items()
    }


@dataclasses.dataclass
class Stored:
    """What is stored: for each view and entity the time, and what each feature reads as."""

    project: FeastProject
    entities: dict[str, dict[object, tuple[datetime, dict[str, object]]]]

    def expected(self, view: str, key: object, feature: str) -> Cell:
        """The cell that every way to read must give."""
        if key not in self.entities[view]:
            return Cell(None, UNKNOWN, None)
        time, values = self.entities[view][key]
        value, moment = values[feature], time.timestamp()
        if value is OTHER or (value is None and not moment):  # Feast's Redis store does not tell the time 0 from no row.
            return Cell(None, UNKNOWN, None)
        if value is None:
            return Cell(None, NULL, moment)
        old = view != "forever" and time < NOW - timedelta(days=1)
        return Cell(value, OLD if old else PRESENT, moment)


@pytest.fixture(scope="module", name="stored")
def stored_fixture(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> Stored:
    """A project in which each view has an entity for every row of the table, at every time."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    project = make_project("conformance", tmp_path_factory.mktemp("conformance"), valkey_port)
    project.apply(DEFINITIONS)
    store, cases = project.store(), table()
    found: dict[str, dict[object, tuple[datetime, dict[str, object]]]] = {}
    most = max(map(len, cases.values()))
    for view in ("forever", "aging", "numbered"):
        rows = []
        found[view] = {}
        for number in range(most * len(TIMES)):
            time, case = TIMES[number % len(TIMES)], number // len(TIMES)
            key: object = number if view == "numbered" else f"thing {number}"
            named = Value(int64_val=number) if view == "numbered" else Value(string_val=f"thing {number}")
            row = {name: some[case % len(some)] for name, some in cases.items()}
            found[view][key] = time, {name: value for name, (_, value) in row.items()}
            entity = EntityKey(join_keys=["place_id" if view == "numbered" else "thing_id"], entity_values=[named])
            rows.append((entity, {name: value for name, (value, _) in row.items()}, time, None))
        store.provider.online_write_batch(store.config, store.get_feature_view(view), rows, None)
    return Stored(project, found)


@pytest.fixture(name="online")
async def online_fixture(stored: Stored) -> AsyncIterator[OnlineFeatures]:
    """The features in it."""
    backend = FeastBackend(settings=FeastSettings(config_path=stored.project.config_path, registry_ttl=1000))
    await backend.open()
    yield OnlineFeatures(backend=backend)
    await backend.close()


def by_feast(plan: OnlinePlan) -> OnlinePlan:
    """The same plan, for Feast's own read."""
    return dataclasses.replace(plan, kept=None)


def written(cells: Sequence[Sequence[Cell]]) -> list[list[str]]:
    """With types told apart, and with what is not a number equal to itself."""
    return [[repr(tuple(cell)) for cell in row] for row in cells]


VIEWS = pytest.mark.parametrize("views", [["forever"], ["aging"], ["numbered"], ["aging", "forever"], ["forever", "numbered"]])


class TestEveryWayToRead:
    def asked(self, stored: Stored, plan: OnlinePlan) -> list[dict[str, object]]:
        """A row for each entity, and one that nobody knows."""
        things, places = [*stored.entities["forever"], "nobody"], [*stored.entities["numbered"], -1]
        keys = {key.name for key in plan.join_keys}
        return [
            {name: value for name, value in (("thing_id", thing), ("place_id", place)) if name in keys}
            for thing, place in zip(things, places, strict=True)
        ]

    def expected(self, stored: Stored, plan: OnlinePlan, rows: Sequence[dict[str, object]]) -> list[list[Cell]]:
        """What the table says of the rows."""
        keys = {"forever": "thing_id", "aging": "thing_id", "numbered": "place_id"}
        return [
            [stored.expected(feature.view, row[keys[feature.view]], feature.name) for feature in plan.features] for row in rows
        ]

    @VIEWS
    async def test_rows_read_as_the_table_says(self, stored: Stored, online: OnlineFeatures, views: list[str]) -> None:
        """Past Feast and by Feast: for every type, missing, stale, unknown, and written under an earlier definition."""
        plan = await online.plan(features=views)
        assert is_direct(plan)
        rows = self.asked(stored, plan)
        expected = written(self.expected(stored, plan, rows))
        for way in (plan, by_feast(plan)):
            assert written(await online.read(way, rows)) == expected
            assert written(await online.read(way, rows[7:8])) == expected[7:8]

    @VIEWS
    @pytest.mark.parametrize("usual", [True, False])
    async def test_columns_read_as_the_table_says(
        self, stored: Stored, online: OnlineFeatures, views: list[str], usual: bool
    ) -> None:
        """Whether or not something is missing, which is read in another way."""
        plan = await online.plan(features=views)
        rows = self.asked(stored, plan)
        cells = self.expected(stored, plan, rows)
        if usual:
            kept = [at for at, row in enumerate(cells) if all(cell.status != UNKNOWN for cell in row[:5])] or [0]
            rows, cells = [rows[at] for at in kept], [cells[at] for at in kept]
        expected = by_column(cells, len(plan.features))
        keys = {key.name: [row[key.name] for row in rows] for key in plan.join_keys}
        for way in (plan, by_feast(plan)):
            for ours, theirs in zip(await online.read_columns(way, keys, len(rows)), expected, strict=True):
                assert [repr(value) for value in listed(ours.values)] == [repr(value) for value in theirs.values]
                assert list(ours.statuses) == list(theirs.statuses)

    @pytest.mark.parametrize("feature", list(table()))
    async def test_a_type_alone_reads_as_the_table_says(self, stored: Stored, online: OnlineFeatures, feature: str) -> None:
        """Each type by columns, where whole columns of it are read at once, and then with one that is of another type."""
        plan = await online.plan(features=[f"aging:{feature}"])
        fitting = [key for key in stored.entities["aging"] if stored.expected("aging", key, feature).status in (PRESENT, OLD)]
        odd = next(key for key, (_, values) in stored.entities["aging"].items() if values[feature] is OTHER)
        for keys in (fitting, [*fitting, odd]):
            cells = [[stored.expected("aging", key, feature)] for key in keys]
            (theirs,) = by_column(cells, 1)
            (ours,) = await online.read_columns(plan, {"thing_id": keys}, len(keys))
            assert [repr(value) for value in listed(ours.values)] == [repr(value) for value in theirs.values]
            assert list(ours.statuses) == list(theirs.statuses)

    @pytest.mark.parametrize("view", ["forever", "aging", "numbered"])
    async def test_get_online_features_tells_what_the_table_says(self, stored: Stored, online: OnlineFeatures, view: str) -> None:
        """In messages; and what no message can hold is refused by its name, and only for those who ask for it."""
        plan = await online.plan(features=[view])
        rows = self.asked(stored, plan)
        cells = self.expected(stored, plan, rows)
        some = [at for at, row in enumerate(cells) if not any(isinstance(cell.value, Unreadable) for cell in row)]
        response = await online.get(asked([rows[at] for at in some], [view]))
        for at, vector in zip(some, response.vectors, strict=True):
            for cell, feature in zip(cells[at], vector.features, strict=True):
                assert (feature.value, feature.status) == (in_message(cell.value), cell.status)
                assert feature.HasField("event_time") == (cell.event_time is not None)
                if cell.event_time is not None:
                    assert feature.event_time.ToNanoseconds() == round(cell.event_time * 1e6) * 1000
        odd = next(at for at in range(len(rows)) if at not in some)
        with refused("FEATURE_VALUE_INVALID") as error:
            await online.get(asked([rows[odd]], [view]))
        assert f"{view}:timestamp is outside of the years 1 to 9999" in error.value.message
        assert (await online.get(asked([rows[odd]], [f"{view}:string"]))).vectors


class TestMaterialized:
    async def test_what_a_file_holds_is_read_in_every_way(
        self, views: FeatureViews, feast_backend: FeastBackend, feast_project: FeastProject
    ) -> None:
        """Of every type: a value, and null, which Feast writes in ways of its own; and times from the year 1 to 9999."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        time, stamp = datetime(2024, 5, 1, tzinfo=UTC), pa.timestamp("us", "UTC")
        columns: dict[str, tuple[str, pa.DataType, object]] = {
            "string": ("STRING", pa.string(), "text"),
            "int32": ("INT32", pa.int32(), -5),
            "int64": ("INT64", pa.int64(), 2**53 - 1),
            "float": ("FLOAT", pa.float32(), 0.5),
            "double": ("DOUBLE", pa.float64(), 0.1),
            "bool": ("BOOL", pa.bool_(), True),
            "bytes": ("BYTES", pa.binary(), b"\x00\x01"),
            "strings": ("STRING_LIST", pa.list_(pa.string()), ["a", ""]),
            "int64s": ("INT64_LIST", pa.list_(pa.int64()), [1, 2**62]),
            "floats": ("FLOAT_LIST", pa.list_(pa.float32()), [0.5]),
            "doubles": ("DOUBLE_LIST", pa.list_(pa.float64()), []),
            "day": ("TIMESTAMP", pa.date32(), date(1960, 1, 1)),
            **{f"time_{n}": ("TIMESTAMP", stamp, at(n)) for n in (0, 1, 1_700_000_000)},
            "time_before": ("TIMESTAMP", stamp, at(-1)),
            "time_first": ("TIMESTAMP", stamp, at(-62_135_596_800)),
            "time_last": ("TIMESTAMP", stamp, at(253_402_300_799)),
        }
        table = {name: pa.array([value, None], kind) for name, (_, kind, value) in columns.items()}
        times = {"thing": ["a", "b"], "event_timestamp": pa.array([time, time], stamp)}
        path = feast_project.folder / "of_every_type.parquet"
        pq.write_table(pa.table({**table, **times}), path)
        view = user_view(
            name="of_every_type",
            entities=[{"name": "typed_thing", "join_key": "thing"}],
            features=[{"name": name, "value_type": f"VALUE_TYPE_{kind}"} for name, (kind, _, _) in columns.items()],
            ttl="0s",
            source={"path": str(path), "timestamp_field": "event_timestamp"},
        )
        await views.register(view)
        feast_project.store().materialize(time - timedelta(days=1), time + timedelta(days=1), feature_views=[view.name])
        online = OnlineFeatures(backend=feast_backend)
        plan = await online.plan(features=[view.name])
        expected = [at(-315_619_200) if name == "day" else value for name, (_, _, value) in columns.items()]
        for way in (plan, by_feast(plan)):
            found = await online.read(way, [{"thing": "a"}, {"thing": "b"}])
            assert [(cell.value, cell.status) for cell in found[0]] == [(value, PRESENT) for value in expected]
            assert {(cell.value, cell.status) for cell in found[1]} == {(None, NULL)}
            for value, column in zip(expected, await online.read_columns(way, {"thing": ["a", "b"]}, 2), strict=True):
                assert (listed(column.values), list(column.statuses)) == ([value, None], [PRESENT, NULL])
        response = await online.get(asked([{"thing": "a"}, {"thing": "b"}], [view.name]))
        assert [each.value for each in response.vectors[0].features] == [in_message(value) for value in expected]
        assert {each.status for each in response.vectors[1].features} == {NULL}
