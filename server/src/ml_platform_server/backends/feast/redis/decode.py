"""Reads what Feast wrote: values and points in time, from their protobuf bytes; the common ones quickly, the rest as Feast."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp

Read = Callable[[bytes], object | None]
"""Reads a stored value as Feast does, whatever it is; None is a missing one, and OTHER_TYPE one of another type."""

# A message of one field begins with the field's number in Feast's Value, and how it is written: 0 as a number of variable
# length, 1 in eight bytes, 2 after its length, 5 in four bytes.
TEXT, INT32, INT64, DOUBLE, FLOAT, BOOL = 2 << 3 | 2, 3 << 3, 4 << 3, 5 << 3 | 1, 6 << 3 | 5, 7 << 3
TAGS: Mapping[str, int] = {
    "string_val": TEXT,
    "int32_val": INT32,
    "int64_val": INT64,
    "double_val": DOUBLE,
    "float_val": FLOAT,
    "bool_val": BOOL,
}
"""The first byte of a value, by the field of Feast's Value that holds it, for the types that are read quickly."""
CONTINUATION_BIT = 128
"""Set in each byte of a number of variable length but the last."""
LONGEST = 9
"""Bytes, first one included, of a number that surely has no sign; negative ones have eleven."""

_eight = struct.Struct("<xd")
_four = struct.Struct("<xf")


double = _eight.unpack
"""Reads a number whose first byte is DOUBLE and that has DOUBLE_BYTES, into a tuple of it alone."""
DOUBLE_BYTES = _eight.size


class Reader(NamedTuple):
    """How the stored values of one feature are read.

    Args:
        field: the field of Feast's Value that holds them; "" if any may.
        tag: the first byte of a value of the feature's type, if it is one of TAGS; else 0.
        read: reads the bytes of a value.
    """

    field: str
    tag: int
    read: Read


def reader(field: str, feast_s: Read) -> Reader:
    """The reader of a feature whose values are in this field of Feast's Value, given how Feast reads them."""
    tag = TAGS.get(field, 0)
    return Reader(field, tag, _QUICK[tag](feast_s) if tag else feast_s)


def _doubles(feast_s: Read) -> Read:
    def read(raw: bytes) -> object | None:
        if raw[0] != DOUBLE or len(raw) != DOUBLE_BYTES:
            return feast_s(raw)
        value: float = double(raw)[0]
        return value if value == value else None  # noqa: PLR0124  # what is not a number is missing

    return read


def _floats(feast_s: Read) -> Read:
    def read(raw: bytes) -> object | None:
        if raw[0] != FLOAT or len(raw) != _four.size:
            return feast_s(raw)
        value: float = _four.unpack(raw)[0]
        return value if value == value else None  # noqa: PLR0124  # the same

    return read


def _texts(feast_s: Read) -> Read:
    def read(raw: bytes) -> object | None:
        return raw[2:].decode() if raw[0] == TEXT and len(raw) - 2 == raw[1] < CONTINUATION_BIT else feast_s(raw)

    return read


def _wholes(tag: int) -> Callable[[Read], Read]:
    def reading(feast_s: Read) -> Read:
        def read(raw: bytes) -> object | None:
            value = raw[-1]
            if raw[0] != tag or value >= CONTINUATION_BIT or not 1 < len(raw) <= LONGEST:
                return feast_s(raw)
            for byte in raw[-2:0:-1]:
                if byte < CONTINUATION_BIT:
                    return feast_s(raw)
                value = value << 7 | byte & ~CONTINUATION_BIT
            return value

        return read

    return reading


def _flags(feast_s: Read) -> Read:
    def read(raw: bytes) -> object | None:
        return raw == _TRUE if raw in (_TRUE, _FALSE) else feast_s(raw)

    return read


_TRUE, _FALSE = bytes([BOOL, 1]), bytes([BOOL, 0])
_QUICK: Mapping[int, Callable[[Read], Read]] = {
    DOUBLE: _doubles,
    FLOAT: _floats,
    TEXT: _texts,
    INT32: _wholes(INT32),
    INT64: _wholes(INT64),
    BOOL: _flags,
}
"""What makes the quick way for a type, by its first byte; it is given Feast's way, for whatever it does not expect."""


def moment(raw: bytes | None) -> float:
    """A point in time in seconds since 1970, to the microsecond; 0 if there is none, which is how Feast reads that."""
    if not raw:
        return 0.0
    stamp = Timestamp.FromString(raw)
    nanos = stamp.nanos
    if nanos % 1000:  # Feast goes by Python's microseconds.
        stamp.FromDatetime(datetime.fromtimestamp(stamp.seconds + nanos / 1e9, UTC))
        nanos = stamp.nanos
    return stamp.seconds + nanos / 1e9
