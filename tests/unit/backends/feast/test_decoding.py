"""Values and times in Feast's bytes, read quickly, come to what Feast itself reads."""

from __future__ import annotations

import pytest
from feast.protos.feast.types.Value_pb2 import StringList, Value
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform_server.backends.feast.decoding import READERS, by_feast, moment
from ml_platform_server.backends.feast.types import from_feast


def feast_s(raw: bytes) -> object | None:
    """As Feast reads it."""
    return from_feast(Value.FromString(raw))


def read(raw: bytes) -> object | None:
    """As a layout reads it."""
    return READERS.get(raw[0], by_feast)(raw, feast_s)


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
    """Of every type, around every length that is written differently."""
    raw = value.SerializeToString()
    assert repr(read(raw)) == repr(feast_s(raw))


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
    assert repr(read(raw)) == repr(feast_s(raw))


@pytest.mark.parametrize(
    ("seconds", "nanos", "expected"),
    [
        (1_700_000_000, 123_456_000, 1_700_000_000.123456),
        (1_700_000_000, 123_456_789, 1_700_000_000.123457),
        (1_700_000_000, 0, 1_700_000_000.0),
        (-86_400, 500_000_000, -86_399.5),
        (0, 0, None),
    ],
)
def test_a_time_is_read_to_the_microsecond(seconds: int, nanos: int, expected: float | None) -> None:
    """As Feast's own times are kept; the beginning of all time is none."""
    assert moment(Timestamp(seconds=seconds, nanos=nanos).SerializeToString()) == expected


def test_no_time_is_none() -> None:
    """Whether the field is empty or was never there."""
    assert moment(None) is None
    assert moment(b"") is None
