"""Parses large requests without holding up the event loop, and none that would take more memory than it looks.

On the wire an empty message has two bytes, in memory some fifty; and a MiB of such messages takes 10 ms and more to parse. So
what is large is measured before it is parsed, and parsed piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from ml_platform.v1 import validation_pb2
from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation.value_counts import (
    MOST_COLUMN_VALUES,
    MOST_VALUES,
    NOTABLE,
    problem_in,
    problem_on_the_wire,
)
from ml_platform_server.interceptors.validation.wire_fields import LENGTH, fields
from ml_platform_server.varints import MORE

LARGE = 64 * 1024
"""Bytes up to which nothing in a request can take long."""

# What is parsed at once.
_PIECE = 1024 * 1024
# What may be parsed at once where it cannot be cut: one row, one column, one tensor.
_MOST_AT_ONCE = 3 * 1024 * 1024
# Fields of one message that are looked at: rows and columns have limits of 10,000 each.
_MOST_FIELDS = 25_000

# Bytes of a name or an id, which errors may quote: what it should be, those who take it know better.
_LONGEST_NAME = 256 * 1024

_COLUMN = "ml_platform.v1.InputColumn"
_FEWER_VALUES = "send numbers as columns or packed tensors, and fewer rows at once"
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
                continue
            await asyncio.sleep(0)
            await self._count_entries(data, field, violations)
            if size > _PIECE:
                self._weigh(data, field, violations)
        start = 0
        for end in pieces:
            if violations:
                return message
            message.MergeFromString(data[start:end])
            start = end
            await asyncio.sleep(0)
        await self._count_values(message, notable, violations)
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
            if tag & 135 == LENGTH and at + 2 < size and (data[at + 1] < MORE or data[at + 2] < MORE):
                length, value, number = data[at + 1], at + 2, tag >> 3
                if length >= MORE:
                    length, value = length & (MORE - 1) | data[value] << 7, value + 1
                at = value + length
            else:
                number, value, at = next(fields(data, at, size))
            total += 1
            counts[number] = count = counts.get(number, 0) + 1
            if at - value >= NOTABLE and number in self._fields:
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

    async def _count_entries(self, data: bytes, field: _Field, violations: list[Violation]) -> None:
        """Find a map with so many entries that it takes long to parse."""
        descriptor = self._fields[field.number]
        kind = descriptor.message_type
        if kind is not None and (problem := await problem_on_the_wire(data, field.value, field.end, kind)) is not None:
            violations.append(Violation(descriptor.name, f"{problem}; {_FEWER_VALUES}"))

    def _weigh(self, data: bytes, field: _Field, violations: list[Violation]) -> None:
        """Find a field that takes long to parse."""
        descriptor = self._fields[field.number]
        if _parsed_bytes(data, field, descriptor) > _MOST_AT_ONCE:
            text = f"has an item of more than {_MOST_AT_ONCE} bytes that are not plain numbers"
            violations.append(Violation(descriptor.name, text))

    async def _count_values(self, message: Message, notable: Iterable[_Field], violations: list[Violation]) -> None:
        """Find a field of the message, or one of its items, with too many values."""
        for field in notable:
            descriptor = self._fields[field.number]
            if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
                continue
            value, path = getattr(message, descriptor.name), descriptor.name
            if descriptor.is_repeated:
                value, path = value[field.place], f"{path}[{field.place}]"
            most = MOST_COLUMN_VALUES if descriptor.message_type.full_name == _COLUMN else MOST_VALUES
            problem = await problem_in(value, most)
            if problem is not None:
                violations.append(Violation(path, f"{problem}; {_FEWER_VALUES}"))
                return
            await asyncio.sleep(0)


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
    for count, each in enumerate(fields(data, field.value, field.end)):
        if count >= _MOST_FIELDS:
            return size
        parsed += _parsed_bytes(data, _Field(*each), inner.get(each[0]))
    return parsed


def _rules(field: FieldDescriptor) -> validation_pb2.FieldRules:
    rules: validation_pb2.FieldRules = field.GetOptions().Extensions[validation_pb2.rules]
    return rules
