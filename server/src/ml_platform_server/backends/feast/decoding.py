"""Reads what Feast wrote: values and points in time, from their protobuf bytes; the common ones quickly, the rest as Feast."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

Read = Callable[[bytes], object | None]
"""Reads a value as Feast does, whatever it is; None is a missing one."""

# A message of one field begins with the field's number in Feast's Value, and how it is written: 0 as a number of variable
# length, 1 in eight bytes, 2 after its length, 5 in four bytes.
TEXT, INT32, INT64, DOUBLE, FLOAT, BOOL = 2 << 3 | 2, 3 << 3, 4 << 3, 5 << 3 | 1, 6 << 3 | 5, 7 << 3
MORE = 128
"""Set in each byte of a number of variable length but the last."""
LONGEST = 9
"""Bytes, first one included, of a number that surely has no sign; negative ones have eleven."""

_eight = struct.Struct("<xd")
_four = struct.Struct("<xf")


double = _eight.unpack
"""Reads a number whose first byte is DOUBLE and that has DOUBLE_BYTES, into a tuple of it alone."""
DOUBLE_BYTES = _eight.size


def _double(raw: bytes, feast_s: Read) -> object | None:
    if len(raw) != _eight.size:
        return feast_s(raw)
    value: float = _eight.unpack(raw)[0]
    return value if value == value else None  # noqa: PLR0124  # what is not a number is missing


def _float(raw: bytes, feast_s: Read) -> object | None:
    if len(raw) != _four.size:
        return feast_s(raw)
    value: float = _four.unpack(raw)[0]
    return value if value == value else None  # noqa: PLR0124  # the same


def _text(raw: bytes, feast_s: Read) -> object | None:
    return raw[2:].decode() if len(raw) - 2 == raw[1] < MORE else feast_s(raw)


def _whole(raw: bytes, feast_s: Read) -> object | None:
    value = raw[-1]
    if value >= MORE or not 1 < len(raw) <= LONGEST:
        return feast_s(raw)
    for byte in raw[-2:0:-1]:
        if byte < MORE:
            return feast_s(raw)
        value = value << 7 | byte & ~MORE
    return value


def _flag(raw: bytes, feast_s: Read) -> object | None:
    return raw == _TRUE if raw in (_TRUE, _FALSE) else feast_s(raw)


_TRUE, _FALSE = bytes([BOOL, 1]), bytes([BOOL, 0])
READERS: Mapping[int, Callable[[bytes, Read], object | None]] = {
    DOUBLE: _double,
    FLOAT: _float,
    TEXT: _text,
    INT32: _whole,
    INT64: _whole,
    BOOL: _flag,
}
"""What reads a value, by its first byte; it is given all of the bytes, and Feast's way for what it does not expect."""


def by_feast(raw: bytes, feast_s: Read) -> object | None:
    """What reads all other values."""
    return feast_s(raw)


def moment(raw: bytes | None) -> float | None:
    """A point in time in seconds since 1970, to the microsecond; None if there is none."""
    if not raw:
        return None
    stamp = Timestamp.FromString(raw)
    nanos = stamp.nanos
    if nanos % 1000:  # Feast goes by Python's microseconds.
        stamp.FromDatetime(datetime.fromtimestamp(stamp.seconds + nanos / 1e9, UTC))
        nanos = stamp.nanos
    return stamp.seconds + nanos / 1e9 or None
