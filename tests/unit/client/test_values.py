"""Values and dates as people write them, and what goes over the wire for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest

from ml_platform import Entity, Feature, InvalidArgument
from ml_platform.dates import Day, to_day, to_duration, to_end, to_start
from ml_platform.resources.definitions import to_entity_keys, to_rows, to_value_type, to_view
from ml_platform.v1 import features_pb2
from ml_platform.v1.predictions_pb2 import PredictRequest
from ml_platform.values import from_struct, to_struct, to_version


@pytest.mark.parametrize(
    ("value", "arrives"),
    [
        (1, 1),
        (1.5, 1.5),
        (float("inf"), float("inf")),
        (Decimal("-Infinity"), float("-inf")),
        (True, True),
        (None, None),
        ("text", "text"),
        ([1, "a", None], [1, "a", None]),
        ({"a": {"b": 1}}, {"a": {"b": 1}}),
        (2**53 - 1, 2**53 - 1),
        (2**53, "9007199254740992"),
        (-(2**53), "-9007199254740992"),
        (2**53 + 1, "9007199254740993"),
        (Decimal(2**53 + 1), "9007199254740993"),
        (date(2024, 1, 1), "2024-01-01"),
        (datetime(2024, 1, 1, 12, tzinfo=UTC), "2024-01-01T12:00:00+00:00"),
        (Decimal("1.5"), 1.5),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (np.int64(7), 7),
        (np.float32(0.5), 0.5),
        (np.array([1, 2]), [1, 2]),
        (np.array([1])[0] == 1, True),
        (pd.NaT, None),
        (pd.NA, None),
        (pd.Timestamp("2024-01-01"), "2024-01-01T00:00:00"),
    ],
)
def test_a_value_arrives(value: Any, arrives: Any) -> None:
    """What can be written as JSON arrives as it is; what numbers cannot hold exactly arrives as digits."""
    assert from_struct(to_struct({"x": value}, "inputs")) == {"x": arrives}


@pytest.mark.parametrize("value", [object(), {"deep": [1j]}])
def test_a_value_that_cannot_be_sent_is_named(value: Any) -> None:
    """What cannot be sent is an InvalidArgument that says where it stands."""
    with pytest.raises(InvalidArgument, match=r"inputs\.x"):
        to_struct({"x": value}, "inputs")


def test_nan_stays_nan_in_inputs() -> None:
    """A model may know what to do with a number that is none."""
    assert str(from_struct(to_struct({"x": float("nan")}, "inputs"))["x"]) == "nan"


@pytest.mark.parametrize(
    ("given", "day"),
    [
        ("2024-01-31", "2024-01-31"),
        (date(2024, 1, 31), "2024-01-31"),
        (datetime(2024, 1, 31, 23, 59, tzinfo=UTC), "2024-01-31"),
        ("2024-01-31T10:00:00", "2024-01-31"),
        (pd.Timestamp("2024-01-31"), "2024-01-31"),
        (datetime(2024, 1, 31, 23, tzinfo=timezone(timedelta(hours=-5))), "2024-02-01"),
        ("2024-01-31T01:00:00+02:00", "2024-01-30"),
        (pd.Timestamp("2024-01-31 20:00", tz="America/New_York"), "2024-02-01"),
        (None, None),
    ],
)
def test_a_day_is_read(given: Day | None, day: str | None) -> None:
    """A day may be text, a date or a datetime; a moment with a time zone means its day in UTC."""
    assert to_day(given, "data_start_date") == day


@pytest.mark.parametrize(
    ("given", "start", "end"),
    [
        ("2024-01-31", "2024-01-31T00:00:00Z", "2024-02-01T00:00:00Z"),
        (date(2024, 2, 29), "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-01-31T10:00:00", "2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"),
        (datetime(2024, 1, 31, 10, tzinfo=timezone(timedelta(hours=2))), "2024-01-31T08:00:00Z", "2024-01-31T08:00:00Z"),
    ],
)
def test_a_window_is_read(given: Day, start: str, end: str) -> None:
    """A day begins and ends at midnight UTC and counts in full; a moment is taken as it is, in UTC if it names no zone."""
    assert (to_start(given, "start_date").ToJsonString(), to_end(given, "end_date").ToJsonString()) == (start, end)


@pytest.mark.parametrize("given", ["yesterday", "2024-13-01", "", 20240101, pd.NaT])
def test_what_is_no_day_is_named(given: Any) -> None:
    """What is no day is an InvalidArgument that names the argument and shows how a day is written."""
    with pytest.raises(InvalidArgument, match=r"start_date: .*YYYY-MM-DD"):
        to_start(given, "start_date")


@pytest.mark.parametrize("given", [-1, float("inf"), "1h", True])
def test_what_is_no_span_is_named(given: Any) -> None:
    """A ttl is a timedelta or seconds."""
    with pytest.raises(InvalidArgument, match="ttl"):
        to_duration(given, "ttl")


def test_a_version_may_come_as_digits() -> None:
    """MLflow writes versions as text; both forms are taken, nothing else."""
    assert (to_version("2", "version"), to_version(2, "version")) == (2, 2)
    for nonsense in ("two", 0, -1, 1.5, None, True):
        with pytest.raises(InvalidArgument, match="version"):
            to_version(nonsense, "version")


@pytest.mark.parametrize(
    ("name", "number"),
    [("int64", 3), ("INT64", 3), (int, 3), (float, 5), ("float", 4), ("float64", 5), (datetime, 7), ("float_list", 11)],
)
def test_a_type_is_read(name: Any, number: int) -> None:
    """Types are written as words, in any case, or as Python's own."""
    assert to_value_type(name, "features.x") == number


@pytest.mark.parametrize("name", ["number", "unspecified", "", complex])
def test_what_is_no_type_is_named(name: Any) -> None:
    """What is no type is named, with those there are."""
    with pytest.raises(InvalidArgument, match="int64, float, double"):
        to_value_type(name, "features.x")


def test_entities_and_features_may_be_written_in_several_ways() -> None:
    """Mappings, pairs and objects mean the same."""
    ways: list[tuple[Any, Any]] = [
        ({"user_id": "string"}, {"total": "int64"}),
        (["user_id"], [("total", int)]),
        ([Entity("user_id", "user_id", "string")], [Feature("total", "int64")]),
    ]
    made = [
        to_view(
            "v",
            entities,
            features,
            "p",
            timestamp_field="t",
            created_timestamp_column=None,
            ttl=None,
            description=None,
            tags=None,
        )
        for entities, features in ways
    ]
    assert made[0] == made[1] == made[2]
    assert made[0].entities[0] == features_pb2.Entity(
        name="user_id", join_key="user_id", value_type=features_pb2.VALUE_TYPE_STRING
    )


def test_rows_may_be_a_frame() -> None:
    """A DataFrame's rows arrive with their values, missing ones as null, and their event times."""
    frame = pd.DataFrame({"user_id": ["a", "b"], "total": [1.0, None], "event_timestamp": pd.to_datetime(["2024-01-01", None])})
    rows = list(to_rows(frame, timestamp_field="event_timestamp"))
    assert [from_struct(row.values) for row in rows] == [{"user_id": "a", "total": 1}, {"user_id": "b", "total": None}]
    assert [row.HasField("event_time") for row in rows] == [True, False]


@pytest.mark.parametrize("rows", [[], "text", [1]])
def test_what_is_no_row_is_named(rows: Any) -> None:
    """Nothing, text and numbers are no rows."""
    with pytest.raises(InvalidArgument, match="rows"):
        list(to_rows(rows, timestamp_field="t"))


def test_one_way_to_name_entities_is_wanted() -> None:
    """Giving none or both of `entity_id` and `entities`, or one text as a list, is refused."""
    for entity_id, entities in ((None, None), ("a", ["b"]), (None, "abc")):
        with pytest.raises(InvalidArgument):
            to_entity_keys(entity_id, entities)


@pytest.mark.parametrize("given", [b"abc", bytearray(b"abc"), [b"abc"], {"y": b"abc"}, memoryview(b"abc")])
def test_bytes_are_refused(given: Any) -> None:
    """Bytes would become base64 text that a column of strings takes for its own; the error says how to send them."""
    with pytest.raises(InvalidArgument, match="bytes cannot be sent; send text, or base64"):
        to_struct({"x": given}, "inputs")


def nested(levels: int) -> Any:
    """Mappings within mappings."""
    found: Any = 1
    for _ in range(levels):
        found = {"x": found}
    return found


def test_values_may_be_nested_as_deep_as_the_platform_reads() -> None:
    """Up to 30 levels arrive; more, and values that contain themselves, are refused before anything is sent."""
    sent = PredictRequest(inputs=to_struct(nested(30), "inputs")).SerializeToString()
    assert from_struct(PredictRequest.FromString(sent).inputs) == nested(30)
    itself: dict[str, Any] = {}
    itself["x"] = itself
    for given in (nested(32), nested(900), itself):
        with pytest.raises(InvalidArgument, match="nested more than 30 levels deep"):
            to_struct(given, "inputs")


def test_names_that_are_the_same_as_text_are_refused() -> None:
    """1 and "1" are two keys of a mapping and one of a request."""
    with pytest.raises(InvalidArgument, match="two names are the same"):
        to_struct({1: "a", "1": "b"}, "inputs")  # type: ignore[dict-item]  # as a caller without types may write


@pytest.mark.parametrize("given", [1, "1", np.int64(1), np.uint8(1)])
def test_a_version_may_be_any_integer(given: Any) -> None:
    """Integers of NumPy and pandas are integers."""
    assert to_version(given, "version") == 1


@pytest.mark.parametrize("given", [0, -1, True, np.bool_("yes"), 1.0, np.float64(1), "one", None])
def test_what_is_no_version_is_named(given: Any) -> None:
    """A float is no version, however whole, and neither is a truth value."""
    with pytest.raises(InvalidArgument, match="is not a whole number from 1"):
        to_version(given, "version")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (np.datetime64("2024-01-01T12:00:00.5", "ns"), "2024-01-01T12:00:00.500000"),
        (np.datetime64("2024-01-01", "D"), "2024-01-01T00:00:00"),
        (np.array(["2024-01-01"], "datetime64[ns]"), ["2024-01-01T00:00:00"]),
        (np.datetime64("NaT", "ns"), None),
        (pd.Series(pd.to_datetime(["2024-01-01"])), ["2024-01-01T00:00:00"]),
        (np.longdouble(1.5), 1.5),
        (np.float16(1.5), 1.5),
        (Decimal("1E+30"), "1000000000000000000000000000000"),
    ],
)
def test_numpys_times_and_numbers_are_sent_as_what_they_are(given: Any, sent: Any) -> None:
    """A time of nanoseconds is a time, and not the number of its nanoseconds."""
    assert from_struct(to_struct({"x": given}, "inputs"))["x"] == sent


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.timedelta64(5, "ns"), "a span of time cannot be sent"),
        (pd.Series(pd.to_timedelta(["1h"])), "a span of time cannot be sent"),
        (timedelta(seconds=1), "timedelta cannot be sent"),
        (np.datetime64(1, "ns"), "finer than microseconds"),
        ("\ud800", "no valid Unicode"),
        ({"\ud800": 1}, "no valid Unicode"),
        pytest.param(10**5000, "too many digits", id="integer"),
        pytest.param(Decimal(10) ** 5000, "too many digits", id="Decimal"),
    ],
)
def test_what_cannot_be_sent_is_an_argument_that_is_named(given: Any, said: str) -> None:
    """No exception of Python's or of protobuf's own comes through."""
    with pytest.raises(InvalidArgument, match=said):
        to_struct({"x": given}, "inputs")


def test_times_beyond_the_calendar_are_named() -> None:
    """A time whose UTC year is none, and a last day without a next one, are refused."""
    early = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    for read, given in ((to_start, early), (to_end, early), (to_end, "9999-12-31"), (to_end, date.max)):
        with pytest.raises(InvalidArgument, match="start_date"):
            read(given, "start_date")
    with pytest.raises(InvalidArgument, match="ttl"):
        to_duration(10**20, "ttl")


def test_a_span_is_kept_to_the_microsecond() -> None:
    """Feast keeps nothing finer: what is asked for is what is registered."""
    assert to_duration(3600 / 7, "ttl").ToNanoseconds() == 514_285_714_000
