"""Materialization of real Parquet files into a real Valkey and a real SQLite, as the pipeline's task does it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.value_type import ValueType
from pyarrow import parquet

from ml_platform_server.backends.feast.writes import conditional, history, materializing
from ml_platform_server.backends.feast.writes.history import HistoryError
from tests.support.feast_project import SQLITE_CONFIG, FeastProject, make_project

D0, DAY = datetime(2024, 5, 1, tzinfo=UTC), timedelta(days=1)
MICROSECONDS = pa.timestamp("us", "UTC")
_names = count()


class House:
    """A project, and views over files of it."""

    def __init__(self, project: FeastProject) -> None:
        self.project = project
        self.store = project.store()

    def view(self, dtype: FeastType, **columns: Any) -> str:
        """Apply a view of a feature `y` of the entity `u` over a new file of these columns; by default u counts rows."""
        name = f"m{next(_names)}"
        self.write(name, **columns)
        source = FileSource(
            name=f"{name}_source",
            path=str(self.project.folder / f"{name}.parquet"),
            timestamp_field="event_timestamp",
            created_timestamp_column="created" if "created" in columns else "",
        )
        entity = Entity(name="u", join_keys=["u"], value_type=ValueType.INT64)
        schema = [Field(name="u", dtype=Int64), Field(name="y", dtype=dtype)]
        self.store.apply([entity, FeatureView(name=name, entities=[entity], schema=schema, source=source)])
        return name

    def write(self, name: str, *, y: Any, **columns: Any) -> None:
        """Write the file of a view."""
        every = {"u": pa.array(range(len(y)), pa.int64()), "event_timestamp": pa.array([D0] * len(y), MICROSECONDS)}
        parquet.write_table(pa.table({**every, "y": y, **columns}), self.project.folder / f"{name}.parquet")

    def load(self, name: str, start: datetime = D0, end: datetime = D0 + DAY) -> None:
        """Materialize the view."""
        materializing.materialize(self.store, [name], start, end)

    def read(self, name: str, *keys: int) -> list[object]:
        """What the online store has for each key."""
        found = self.store.get_online_features(features=[f"{name}:y"], entity_rows=[{"u": key} for key in keys])
        values: list[object] = found.to_dict()["y"]
        return values


@pytest.fixture(params=["valkey", "sqlite"])
def house(request: pytest.FixtureRequest, tmp_path: Path, valkey_port: int) -> House:
    """A project of its own on either store."""
    project = make_project("materializing", tmp_path, valkey_port)
    if request.param == "sqlite":
        project.config_path.write_text(SQLITE_CONFIG.format(name="materializing", folder=tmp_path))
    return House(project)


def test_a_file_corrected_in_place_reaches_the_online_store(house: House) -> None:
    """The same event time, a newer created time, materialized again."""
    name = house.view(Float64, y=[1.0], created=pa.array([D0], MICROSECONDS))
    house.load(name)
    house.write(name, y=[1.0, 2.0], u=[0, 0], event_timestamp=pa.array([D0] * 2, MICROSECONDS), created=pa.array([D0, D0 + DAY]))
    house.load(name)
    assert house.read(name, 0) == [2.0]


def test_of_rows_of_one_time_the_one_created_last_is_loaded(house: House) -> None:
    """Wherever it stands, and however many there are; without a created time it counts as the oldest."""
    created = pa.array([D0 + timedelta(hours=hour) if hour else None for hour in (3, 9, 0, 5)] * 50, MICROSECONDS)
    keys = pa.array([at // 4 for at in range(200)], pa.int64())
    name = house.view(Float64, y=[3.0, 9.0, 0.0, 5.0] * 50, u=keys, created=created)
    house.load(name)
    assert set(house.read(name, *range(50))) == {9.0}


def test_an_older_window_does_not_replace_newer_rows(house: House) -> None:
    """Neither those of a newer window nor those that were pushed."""
    name = house.view(Float64, y=[1.0, 2.0], u=[0, 0], event_timestamp=pa.array([D0, D0 + DAY], MICROSECONDS))
    house.load(name, D0 + DAY, D0 + 2 * DAY)
    house.load(name)
    assert house.read(name, 0) == [2.0]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo", None])
def test_a_window_has_its_start_and_not_its_end(house: House, unit: str, zone: str | None) -> None:
    """Whatever the column's unit and zone; what was loaded ends exactly there."""
    times = pa.array([D0 - DAY, D0, D0 + DAY], pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    name = house.view(Float64, y=[1.0, 2.0, 3.0], event_timestamp=times)
    house.load(name)
    assert house.read(name, 0, 1, 2) == [None, 2.0, None]
    [interval] = house.store.get_feature_view(name).materialization_intervals
    assert interval == (D0, D0 + DAY)


def test_a_nanosecond_before_the_end_is_within(house: House) -> None:
    """Though Feast's own times have microseconds; and a start before the column's first possible time is no error."""
    end = 86_400 * 10**9
    times = pa.array([end - 1, end], pa.int64()).cast(pa.timestamp("ns"))
    name = house.view(Float64, y=[1.0, 2.0], u=[0, 0], event_timestamp=times)
    house.load(name, datetime(1, 1, 1, tzinfo=UTC), datetime(1970, 1, 2, tzinfo=UTC))
    assert house.read(name, 0) == [1.0]


def test_nothing_is_loaded_from_ahead(house: House) -> None:
    """A window that ends in the future ends now; one that begins there is refused."""
    ahead = datetime.now(UTC) + DAY
    name = house.view(Float64, y=[1.0, 2.0], u=[0, 0], event_timestamp=pa.array([D0, ahead], MICROSECONDS))
    house.load(name, D0, ahead + 365 * DAY)
    assert house.read(name, 0) == [1.0]
    [(_, end)] = house.store.get_feature_view(name).materialization_intervals
    assert abs(end - datetime.now(UTC)) < timedelta(minutes=5)
    with pytest.raises(HistoryError, match="its end is at most now"):
        house.load(name, ahead, ahead + DAY)


EARLY = datetime(1960, 1, 1, tzinfo=UTC)
ROUND: dict[str, tuple[FeastType, Any, list[object]]] = {
    "integers beside gaps": (Int64, pa.array([2**53 + 1, None, -(2**63)]), [2**53 + 1, None, -(2**63)]),
    "narrow integers": (Int32, pa.array([1, None], pa.int16()), [1, None]),
    "integers that pandas made floats": (Int64, pa.array([1.0, None, float("nan")]), [1, None, None]),
    "numbers": (Float64, pa.array([0.1, None, float("inf")]), [0.1, None, float("inf")]),
    "short numbers": (Float32, pa.array([0.5, None]), [0.5, None]),
    "decimals": (Float64, pa.array([Decimal("1.25"), None]), [1.25, None]),
    "texts": (String, pa.array(["a", "", None]), ["a", "", None]),
    "dictionaries": (String, pa.array(["a", None, "a"]).dictionary_encode(), ["a", None, "a"]),
    "truths": (Bool, pa.array([True, None, False]), [True, None, False]),
    "zeros and ones": (Bool, pa.array([1, 0]), [True, False]),
    "bytes": (Bytes, pa.array([b"\0", None]), [b"\0", None]),
    "lists": (Array(Int64), pa.array([[2**53 + 1], None, []]), [[2**53 + 1], None, []]),
    "lists of texts": (Array(String), pa.array([["a", ""], None, []]), [["a", ""], None, []]),
    "times": (UnixTimestamp, pa.array([D0, None, EARLY], MICROSECONDS), [D0, None, EARLY]),
    "days": (UnixTimestamp, pa.array([date(1960, 1, 1), None]), [EARLY, None]),
    "nothing": (Float64, pa.nulls(2), [None, None]),
}


@pytest.mark.parametrize("kind", ROUND)
def test_values_go_round(house: House, kind: str) -> None:
    """Each kind comes out as it stands in the file."""
    dtype, y, expected = ROUND[kind]
    name = house.view(dtype, y=y)
    house.load(name)
    assert house.read(name, *range(len(expected))) == expected


REFUSED: dict[str, tuple[FeastType, dict[str, Any], str]] = {
    "no key": (Float64, {"u": pa.array([1, None]), "y": [1.0, 2.0]}, "has 1 row without a value of the key u"),
    "no time": (
        Float64,
        {"y": [1.0, 2.0, 3.0], "event_timestamp": pa.array([D0, None, None], MICROSECONDS)},
        "has 2 rows without a time in event_timestamp",
    ),
    "a gap in a list": (Array(Int64), {"y": pa.array([[1, None], [2]])}, "has 1 missing item in the lists of y"),
    "a fraction of a second": (
        UnixTimestamp,
        {"y": pa.array([D0 + timedelta(milliseconds=750)])},
        "1 value of y with a fraction",
    ),
    "the year 10000": (UnixTimestamp, {"y": pa.array([253402300800], pa.timestamp("s"))}, "outside of the years 1 to 9999"),
    "half an integer": (Int64, {"y": [1.5]}, "has 1.5 in y, which is declared INT64: it is not a whole number"),
    "an integer beyond a double": (Int64, {"y": [2.0**53]}, "too large for a floating-point number to be exact"),
    "no column": (Float64, {"y": [1.0], "event_timestamp": pa.array([D0 - DAY], MICROSECONDS)}, "has no data between"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_loaded_is_refused_with_the_reason(house: House, kind: str) -> None:
    """Nothing is written, and the window does not count as loaded."""
    dtype, columns, reason = REFUSED[kind]
    name = house.view(dtype, **columns)
    with pytest.raises(HistoryError, match=reason):
        house.load(name)
    assert set(house.read(name, 0, 1)) == {None}
    assert house.store.get_feature_view(name).materialization_intervals == []


def test_a_value_that_does_not_fit_leaves_every_view_as_it_was(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though rows before it, and the views before its own, could be written."""
    monkeypatch.setattr(history, "CHUNK_ROWS", 1)
    good, bad = house.view(Float64, y=[1.0, 2.0]), house.view(Float32, y=pa.array([1.0, 1e300], pa.float64()))
    with pytest.raises(HistoryError, match=r"has 1e\+300 in y, which is declared FLOAT"):
        materializing.materialize(house.store, [good, bad], D0, D0 + DAY)
    assert (house.read(good, 0, 1), house.read(bad, 0, 1)) == ([None, None], [None, None])


def test_a_row_of_before_1970_is_loaded(house: House) -> None:
    """Its event time is negative, and a newer one replaces it."""
    name = house.view(Float64, y=[1.0], event_timestamp=pa.array([EARLY], MICROSECONDS))
    house.load(name, EARLY - DAY)
    assert house.read(name, 0) == [1.0]


@pytest.mark.parametrize("times", [["2024-05-01", "2024-05-01T12:00:00"], ["1500-05-01", "1500-05-01T12:00:00+01:00"]])
def test_times_written_as_text_are_loaded_from_any_window(house: House, times: list[str]) -> None:
    """Those that nanoseconds cannot count too, and from the year 1 on."""
    name = house.view(Float64, y=[1.0, 2.0], event_timestamp=times)
    house.load(name, datetime(1, 1, 1, tzinfo=UTC))
    assert house.read(name, 0, 1) == [1.0, 2.0]


def test_the_first_nanoseconds_are_loaded_from_any_window(house: House) -> None:
    """Those of the year 1677 too."""
    first = pa.array([-9_223_372_036_000_000_000, 1], pa.timestamp("ns"))
    name = house.view(Float64, y=[1.0, 2.0], event_timestamp=first)
    house.load(name, datetime(1, 1, 1, tzinfo=UTC))
    assert house.read(name, 0, 1) == [1.0, 2.0]


def test_a_view_that_only_feast_can_read_is_loaded_by_the_same_rules(house: House) -> None:
    """Its types are none of the contract's. The end is excluded, a correction wins, and Feast's methods are as before."""
    name = house.view(Array(Bool), y=pa.array([[True], [True]]), event_timestamp=pa.array([D0, D0 + DAY], MICROSECONDS))
    house.load(name)
    assert house.read(name, 0, 1) == [[True], None]
    house.write(name, y=pa.array([[False]]))
    house.load(name)
    assert house.read(name, 0) == [[False]]
    assert "online_write_batch" not in vars(house.store.provider.online_store)
    assert not conditional.write(house.store, house.store.get_feature_view(name), []).count


def test_many_rows_are_written_in_parts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part has rows of its own."""
    monkeypatch.setattr("ml_platform_server.backends.feast.writes.history.CHUNK_ROWS", 7)
    name = house.view(Int64, y=pa.array(range(50)))
    house.load(name)
    assert house.read(name, *range(50)) == [*range(50)]
