"""Feast's layout in Redis, as a plan needs it: which hash each row's keys stand for, which fields to read, what they mean."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast.plan import NEVER_WRITTEN, OTHER_TYPE, Cell
from ml_platform_server.backends.feast.redis.connection import Address
from ml_platform_server.backends.feast.redis.decode import DOUBLE, DOUBLE_BYTES, Read, Reader, double, moment
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT

Row = Mapping[str, object]
Answer = Sequence[bytes | None]

PRESENT = features_pb2.FEATURE_STATUS_PRESENT
OUTSIDE_MAX_AGE = features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE
NULL_VALUE = features_pb2.FEATURE_STATUS_NULL_VALUE
NOT_FOUND = features_pb2.FEATURE_STATUS_NOT_FOUND
_length = struct.Struct("<I").pack
_int32 = struct.Struct("<i").pack
_int64 = struct.Struct("<q").pack
_new = tuple.__new__
Run = tuple[int, int, bool, Read]
"""Some neighbouring features: where they begin and end, whether they are doubles, and what reads one of their values."""


class NeedsCoercion(Exception):  # noqa: N818  # not a failure
    """A key's value is not of its type, so it must be fitted first."""


def _text(value: object) -> bytes:
    if type(value) is not str:
        raise NeedsCoercion
    raw = value.encode()
    return _length(len(raw)) + raw


def _bytes(value: object) -> bytes:
    if type(value) is not bytes:
        raise NeedsCoercion
    return _length(len(value)) + value


def _whole(pack: Callable[[int], bytes]) -> Callable[[object], bytes]:
    def encoded(value: object) -> bytes:
        if type(value) is float and value.is_integer() and abs(value) < SAFE_INTEGER_LIMIT:
            value = int(value)  # Numbers in JSON are floats.
        if type(value) is not int:
            raise NeedsCoercion
        try:
            return pack(value)
        except struct.error:  # Too large: the fitting says so.
            raise NeedsCoercion from None

    return encoded


ENCODERS: Mapping[ValueType.ValueType, Callable[[object], bytes]] = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_BYTES: _bytes,
    features_pb2.VALUE_TYPE_INT32: _whole(_int32),
    features_pb2.VALUE_TYPE_INT64: _whole(_int64),
}
"""How a value of a type stands in a key; text and bytes bring their length."""


@dataclass(frozen=True, slots=True)
class KeyTemplate:
    """The bytes of a hash's name: a head, then for each key its value and what follows it.

    `keys` gives, for each value in its order, the name of the plan's join key, the encoder, and the bytes behind the value.
    """

    head: bytes
    keys: tuple[tuple[str, Callable[[object], bytes], bytes], ...]

    def maker(self) -> Callable[[Row], bytes]:
        """What makes the name for a row; it raises NeedsCoercion or KeyError for a row that must be fitted."""
        head, keys = self.head, self.keys
        if len(keys) == 1:
            ((name, encode, tail),) = keys
            return lambda row: head + encode(row[name]) + tail
        return lambda row: head + b"".join([encode(row[name]) + behind for name, encode, behind in keys])


@dataclass(frozen=True, slots=True)
class ViewFields:
    """Where a view's features stand among the fields that are read, from `start` to before `end`; at `end` is its event time.

    `readers` read the values of these features.
    """

    start: int
    end: int
    max_age: float | None
    readers: tuple[Reader, ...]

    def runs(self) -> tuple[Run, ...]:
        """The features, neighbours of one type together."""
        at, found = self.start, []
        for (tag, _), same in groupby(self.readers, lambda reader: (reader.tag, reader.field)):
            start, (read, *_others) = at, [reader.read for reader in same]
            at += 1 + len(_others)
            found.append((start, at, tag == DOUBLE, read))
        return tuple(found)


class HashQuery:
    """One read of one hash: all the views that are kept under the same key."""

    def __init__(self, template: KeyTemplate, fields: Sequence[bytes], views: Sequence[ViewFields]) -> None:
        self.key = template.maker()
        self.template = template
        self.fields = tuple(fields)
        self.views = tuple(views)
        self._views = tuple((view.end, view.max_age, view.runs()) for view in views)
        # A command but for the key: what comes before the key's length, and what comes behind the key.
        self._before = b"*%d\r\n$5\r\nHMGET\r\n$" % (len(fields) + 2)
        self._behind = b"\r\n" + b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)

    def command(self, key: bytes) -> bytes:
        """The command that reads the fields of one hash."""
        return b"%b%d\r\n%b%b" % (self._before, len(key), key, self._behind)

    def around(self, size: int) -> tuple[bytes, bytes]:
        """What stands before and behind the key in such a command, if the key has so many bytes."""
        return b"%b%d\r\n" % (self._before, size), self._behind

    def cells(self, answer: Answer, now: float) -> list[Cell]:
        """The cells of the features of all the views, from the answer to such a command."""
        cells: list[Cell] = []
        for end, max_age, runs in self._views:
            event_time = moment(answer[end])
            status = OUTSIDE_MAX_AGE if max_age and event_time < now - max_age else PRESENT
            for start, stop, doubles, read in runs:
                for raw in answer[start:stop]:
                    # Most are doubles, and a call for each would double their cost.
                    if doubles and raw and raw[0] == DOUBLE and len(raw) == DOUBLE_BYTES:
                        number = double(raw)[0]
                        value = number if number == number else None  # noqa: PLR0124  # what is not a number is missing
                    else:
                        value = read(raw) if raw else None
                        if value is OTHER_TYPE:
                            cells.append(NEVER_WRITTEN)
                            continue
                    cells.append(_new(Cell, (value, status, event_time)) if value is not None else _missing(event_time))
        return cells


def _missing(event_time: float) -> Cell:
    return Cell(None, NULL_VALUE, event_time) if event_time else NEVER_WRITTEN


@dataclass(frozen=True, slots=True)
class Layout:
    """All that a plan's features need to be read straight from Redis.

    `order` gives, for each of the plan's features, its place among the cells of all the reads of a row; `in_order` says that they
    come in the order of the features.
    """

    address: Address
    reads: tuple[HashQuery, ...]
    order: tuple[int, ...]
    in_order: bool = field(init=False)

    def __post_init__(self) -> None:
        """Find out once."""
        object.__setattr__(self, "in_order", self.order == tuple(range(len(self.order))))

    def aligned(self, cells: list[Cell]) -> list[Cell]:
        """The cells of one row, as all its reads gave them, in the order of the plan's features."""
        return [cells[place] for place in self.order]
