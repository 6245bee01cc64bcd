"""Values and times in Feast's bytes, read quickly, come to what Feast itself reads."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from feast.protos.feast.types.Value_pb2 import NULL, Int64List, StringList, Value
from feast.types import Array, Bool, ImageBytes, Json, UnixTimestamp, Uuid
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.plan import OTHER_TYPE, Unreadable
from ml_platform_server.backends.feast.redis.decode import TAGS, moment, reader
from ml_platform_server.backends.feast.types import FEAST_TYPES, from_feast, stored_as

KINDS = [
    (pb.VALUE_TYPE_STRING, "string_val"),
    (pb.VALUE_TYPE_INT64, "int64_val"),
    (pb.VALUE_TYPE_TIMESTAMP, "unix_timestamp_val"),
    (pb.VALUE_TYPE_FLOAT_LIST, "float_list_val"),
]
FIELDS = ["", *TAGS, "bytes_val", "unix_timestamp_val", "string_list_val", "float_list_val", "double_list_val", "bool_list_val"]


def feast_s(raw: bytes, field: str) -> object | None:
    """As Feast reads what is to be in this field."""
    return from_feast(Value.FromString(raw), field)


def read(raw: bytes, field: str) -> object | None:
    """As a layout reads it."""
    return reader(field, lambda raw: feast_s(raw, field)).read(raw)


@pytest.mark.parametrize(
    "value",
    [
        *(Value(int64_val=sign * (1 << bits) + more) for bits in range(0, 63, 7) for more in (-1, 0, 1) for sign in (1, -1)),
        *(Value(int32_val=number) for number in (0, 1, -1, 127, 128, 2**31 - 1, -(2**31))),
        *(Value(double_val=number) for number in (0.0, -0.0, 0.1, 1e308, float("inf"), float("nan"))),
        *(Value(float_val=number) for number in (0.0, 0.1, 3e38, float("-inf"), float("nan"))),
        *(Value(string_val=text) for text in ("", "a", "ü" * 63, "ü" * 64, "x" * 127, "x" * 128, "数据🙂" * 5000)),
        *(Value(bool_val=flag) for flag in (True, False)),
        *(Value(bytes_val=raw) for raw in (b"", b"\x00\xff" * 200)),
        Value(unix_timestamp_val=1_700_000_000),
        Value(string_list_val=StringList(val=["a", ""])),
        Value(string_list_val=StringList()),
    ],
    ids=lambda value: str(value)[:40].strip(),
)
def test_a_value_is_read_as_feast_reads_it(value: Value) -> None:
    """Of every type, around every length that is written differently; and only by a feature of its type, or of any."""
    raw = value.SerializeToString()
    for field in FIELDS:
        assert repr(read(raw, field)) == repr(feast_s(raw, field))
        assert (read(raw, field) is OTHER_TYPE) == (field not in ("", value.WhichOneof("val")))


@pytest.mark.parametrize(
    "raw",
    [
        b"\x20\x01\x12\x01a",  # two fields, of which the last counts
        b"\x12\x01a\x20\x01",
        b"\x29" + bytes(8) + b"\x20\x05",
        b"\x20\x81\x00",  # one, in a byte more than needed
        b"\x38\x02",  # true, written oddly
        b"\x38\x81\x00",
        b"\x98\x06\x01",  # a field that Feast does not know
    ],
)
def test_what_is_written_unusually_is_left_to_feast(raw: bytes) -> None:
    """Whatever else protobuf allows."""
    for field in FIELDS:
        assert repr(read(raw, field)) == repr(feast_s(raw, field))


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (1_700_000_000, 123_456_000, 1_700_000_000.123456),
        (1_700_000_000, 123_456_789, 1_700_000_000.123457),
        (1_700_000_000, 0, 1_700_000_000.0),
        (-86_400, 500_000_000, -86_399.5),
        (-1, 750_000_000, -0.25),
        (0, 0, 0.0),
    ],
)
def test_a_time_is_read_to_the_microsecond(seconds: int, nanos: int, expected: float) -> None:
    """As Feast's own times are kept."""
    assert moment(Timestamp(seconds=seconds, nanos=nanos).SerializeToString()) == expected


def test_no_time_is_the_time_0() -> None:
    """As Feast reads it, whether the field is empty or was never there."""
    assert moment(None) == 0.0
    assert moment(b"") == 0.0


@pytest.mark.parametrize(
    "value",
    [Value(), Value(null_val=NULL), Value(unix_timestamp_val=-(2**63)), Value(double_val=math.nan), Value(float_val=math.nan)],
)
def test_every_way_to_say_that_there_is_no_value_is_none(value: Value) -> None:
    """Feast keeps a missing time as the least integer, and others as no value, or as one that is not a number."""
    assert from_feast(value) is None


@pytest.mark.parametrize("seconds", [-(2**63) + 1, -62_135_596_801, 253_402_300_800, 2**63 - 1])
def test_a_time_that_python_does_not_know_fails_nobody_else(seconds: int) -> None:
    """It is told in place of the value."""
    assert from_feast(Value(unix_timestamp_val=seconds)) == Unreadable("is outside of the years 1 to 9999")
    assert from_feast(Value(unix_timestamp_list_val=Int64List(val=[0, seconds]))) == Unreadable(
        "is outside of the years 1 to 9999"
    )


@pytest.mark.parametrize("seconds", [-62_135_596_800, -1, 0, 253_402_300_799])
def test_every_time_that_python_knows_is_read(seconds: int) -> None:
    """From the year 1 to 9999; and a missing one in a list is None."""
    assert from_feast(Value(unix_timestamp_val=seconds)) == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert from_feast(Value(unix_timestamp_list_val=Int64List(val=[-(2**63)]))) == [None]


@pytest.mark.parametrize(("feast_type", "field"), [*((FEAST_TYPES[kind], field) for kind, field in KINDS), (Bool, "bool_val"),
    (Array(Bool), "bool_list_val"), (Array(UnixTimestamp), "unix_timestamp_list_val"), (Json, "json_val"), (Uuid, ""),
    (ImageBytes, "")])  # fmt: skip
def test_a_type_s_values_are_in_one_field(feast_type: Any, field: str) -> None:
    """Or in any, where Feast itself reads several."""
    assert stored_as(feast_type) == field
