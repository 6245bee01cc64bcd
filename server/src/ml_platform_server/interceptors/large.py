"""Parses large requests without holding up the event loop, and none that would take more memory than it looks.

On the wire an empty message has two bytes, in memory some fifty; and a MiB of such messages takes 10 ms and more to parse. So
what is large is measured before it is parsed, and parsed piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ml_platform.v1 import validation_pb2
from ml_platform_server.errors import Violation

LARGE = 64 * 1024
"""Bytes up to which nothing in a request can take long."""

# What is parsed at once.
_PIECE = 1024 * 1024
# What may be parsed at once where it cannot be cut: one row, one column, one tensor.
_MOST_AT_ONCE = 3 * 1024 * 1024
# Fields of one message that are looked at: rows and columns have limits of 10,000 each.
_MOST_FIELDS = 25_000
# Entries of one Struct: as many as a model may have columns.
_MOST_ENTRIES = 10_000
# Bytes that hold no more entries than that.
_NOTABLE = 4 * _MOST_ENTRIES

# Bytes of a name or an id, which errors may quote: what it should be, those who take it know better.
_LONGEST_NAME = 256 * 1024

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_MORE = 128
_STRUCT = "google.protobuf.Struct"
# What is copied rather than parsed, packed numbers of a fixed size among it.
_COPIED = {
    FieldDescriptor.TYPE_DOUBLE,
    FieldDescriptor.TYPE_FLOAT,
    FieldDescriptor.TYPE_FIXED32,
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_SFIXED32,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_STRING,
    FieldDescriptor.TYPE_BYTES,
}


class _Field(NamedTuple):
    """A field on the wire: its number, where its value begins, where it ends, and which of its number it is."""

    number: int
    value: int
    end: int
    place: int = 0


class LargeRequests:
    """Parses the large requests of one type.

    Args:
        message: the type.
    """

    def __init__(self, message: type[Message]) -> None:
        self._class = message
        self._fields = {field.number: field for field in cast("Descriptor", message.DESCRIPTOR).fields}
        self._most = {number: most for number, field in self._fields.items() if (most := _rules(field).max_items)}

    async def parse(self, data: bytes, violations: list[Violation]) -> Message:
        """Parse a request. The message is of no use if there are violations.

        Raises:
            DecodeError: the bytes are no message.
        """
        message = self._class()
        pieces, notable = self._measured(data, violations)
        for field in notable:
            if violations:
                break
            size, descriptor = field.end - field.value, self._fields[field.number]
            if descriptor.type == FieldDescriptor.TYPE_STRING and size > _LONGEST_NAME:
                violations.append(Violation(descriptor.name, f"has {size} bytes; at most {_LONGEST_NAME} are allowed"))
            elif size > _PIECE:
                await asyncio.sleep(0)
                self._weigh(data, field, violations)
        start = 0
        for end in pieces:
            if violations:
                return message
            message.MergeFromString(data[start:end])
            start = end
            await asyncio.sleep(0)
        self._check_structs(message, notable, violations)
        return message

    def _measured(self, data: bytes, violations: list[Violation]) -> tuple[list[int], list[_Field]]:
        """Where a message can be cut, and the fields of it that are not small; violations if it has too many fields."""
        pieces: list[int] = []
        notable: list[_Field] = []
        counts: dict[int, int] = {}
        at = start = total = 0
        size = len(data)
        while at < size:
            # Most fields are rows, with a tag of one byte and a length of one or two: this is looked at thousands of times.
            tag = data[at]
            if tag & 135 == _LENGTH and at + 2 < size and (data[at + 1] < _MORE or data[at + 2] < _MORE):
                length, value, number = data[at + 1], at + 2, tag >> 3
                if length >= _MORE:
                    length, value = length & (_MORE - 1) | data[value] << 7, value + 1
                at = value + length
            else:
                number, value, at = next(_fields(data, at, size))
            total += 1
            counts[number] = count = counts.get(number, 0) + 1
            if at - value >= _NOTABLE and number in self._fields:
                notable.append(_Field(number, value, at, count - 1))
            if at - start >= _PIECE:
                pieces.append(at)
                start = at
            if total > _MOST_FIELDS or count > self._most.get(number, _MOST_FIELDS):
                violations.append(self._too_many(number, total))
                break
        if at > size:
            raise DecodeError("a field goes on behind its message")
        return [*pieces, size], notable

    def _too_many(self, number: int, total: int) -> Violation:
        if total > _MOST_FIELDS:
            return Violation("", f"the request has more than {_MOST_FIELDS} fields")
        return Violation(self._fields[number].name, f"has more than the {self._most[number]} items that are allowed")

    def _weigh(self, data: bytes, field: _Field, violations: list[Violation]) -> None:
        """Find a field that takes long to parse."""
        descriptor = self._fields[field.number]
        if _parsed_bytes(data, field, descriptor) > _MOST_AT_ONCE:
            text = f"has an item of more than {_MOST_AT_ONCE} bytes that are not plain numbers"
            violations.append(Violation(descriptor.name, text))

    def _check_structs(self, message: Message, fields: Iterable[_Field], violations: list[Violation]) -> None:
        """Find a Struct with too many entries: a field of the message, or of one of its items."""
        for field in fields:
            descriptor = self._fields[field.number]
            if descriptor.message_type is None:
                continue
            value, path = getattr(message, descriptor.name), descriptor.name
            if descriptor.is_repeated and not descriptor.message_type.GetOptions().map_entry:
                value, path = value[field.place], f"{path}[{field.place}]"
            for name, struct in _structs(value, path):
                if len(struct.fields) > _MOST_ENTRIES:
                    violations.append(Violation(name, f"has {len(struct.fields)} entries; at most {_MOST_ENTRIES} are allowed"))
                    return


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that stands between two places: of each its number, where its value begins, and where it ends.

    Raises:
        DecodeError: there is no message.
    """
    while at < end:
        tag, at = _number(data, at, end)
        kind = tag & 7
        value = at
        if kind == _LENGTH:
            size, value = _number(data, at, end)
            at = value + size
        elif kind == _VARINT:
            _, at = _number(data, at, end)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise DecodeError("a group, or no field at all")
        if at > end:
            raise DecodeError("a field goes on behind its message")
        yield tag >> 3, value, at


def _number(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number of variable length at a place, and where it ends."""
    number = shift = 0
    while at < end and shift < 64:  # noqa: PLR2004  # bits
        byte = data[at]
        at += 1
        if byte < _MORE:
            return number | byte << shift, at
        number |= (byte & (_MORE - 1)) << shift
        shift += 7
    raise DecodeError("a number does not end")


def _parsed_bytes(data: bytes, field: _Field, descriptor: FieldDescriptor | None) -> int:
    """How many bytes of a field are parsed rather than copied; of one with too many fields in it, all of them."""
    size = field.end - field.value
    if descriptor is None or descriptor.type in _COPIED:
        # A text that stands alone is a name, which is looked at as a whole more than once.
        return 0 if descriptor is None or descriptor.type != FieldDescriptor.TYPE_STRING or descriptor.is_repeated else size
    if descriptor.message_type is None or size <= _PIECE:
        return size
    inner = {each.number: each for each in descriptor.message_type.fields}
    parsed = 0
    for count, each in enumerate(_fields(data, field.value, field.end)):
        if count >= _MOST_FIELDS:
            return size
        parsed += _parsed_bytes(data, _Field(*each), inner.get(each[0]))
    return parsed


def _structs(value: Any, path: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401  # a message of any type, or a map
    """A message itself if it is a Struct, else those of its fields that are."""
    descriptor = getattr(value, "DESCRIPTOR", None)
    if descriptor is None:
        return
    if descriptor.full_name == _STRUCT:
        yield path, value
        return
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.full_name == _STRUCT and not field.is_repeated:
            yield f"{path}.{field.name}", getattr(value, field.name)


def _rules(field: FieldDescriptor) -> validation_pb2.FieldRules:
    rules: validation_pb2.FieldRules = field.GetOptions().Extensions[validation_pb2.rules]
    return rules
