"""Parses large requests without holding up the event loop, and none that would take more memory than it looks.

On the wire an empty message has two bytes, in memory some fifty; and a MiB of such messages takes 10 ms and more to parse. So
what is large is measured before it is parsed, and parsed piece by piece.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ml_platform.v1 import validation_pb2
from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation.value_counts import (
    LOOKED_AT,
    MOST_COLUMN_VALUES,
    MOST_VALUES,
    NOTABLE,
    problem_in,
    problem_on_the_wire,
)
from ml_platform_server.interceptors.validation.wire_fields import fields
from ml_platform_server.turns import Turn

LARGE = 64 * 1024
"""Bytes up to which nothing in a request can take long."""

# What is parsed at once.
_PIECE = 1024 * 1024
# Fields of one message that are looked at: rows and columns have limits of 10,000 each.
_MOST_FIELDS = 25_000

# Bytes of a name or an id, which errors may quote: what it should be, those who take it know better.
_LONGEST_NAME = 256 * 1024

_COLUMN = "ml_platform.v1.InputColumn"
_FEWER_VALUES = "send numbers as columns or packed tensors, and fewer rows at once"


class _Field(NamedTuple):
    """A field on the wire: its number, where its value begins, where it ends, and which of its number it is."""

    number: int
    value: int
    end: int
    place: int


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
        turn = Turn()
        pieces, notable = await self._measured(data, violations, turn)
        for field in notable:
            if violations:
                return message
            await self._look_into(data, field, violations, turn)
        start = 0
        for end in pieces:
            if violations:
                return message
            message.MergeFromString(data[start:end])
            start = end
            await turn.next()
        await self._count_values(message, notable, violations, turn)
        return message

    async def _measured(self, data: bytes, violations: list[Violation], turn: Turn) -> tuple[list[int], list[_Field]]:
        """Where a message can be cut, and the fields of it that are not small; violations if it has too many fields."""
        pieces: list[int] = []
        notable: list[_Field] = []
        counts: dict[int, int] = {}
        start = 0
        for total, (number, value, end) in enumerate(fields(data, 0, len(data)), 1):
            counts[number] = count = counts.get(number, 0) + 1
            if end - value >= NOTABLE and number in self._fields:
                notable.append(_Field(number, value, end, count - 1))
            if end - start >= _PIECE:
                pieces.append(end)
                start = end
            if total > _MOST_FIELDS or count > self._most.get(number, _MOST_FIELDS):
                violations.append(self._too_many(number, total))
                break
            if not total % LOOKED_AT and turn.over:
                await turn.next()
        return [*pieces, len(data)], notable

    def _too_many(self, number: int, total: int) -> Violation:
        if total > _MOST_FIELDS:
            return Violation("", f"the request has more than {_MOST_FIELDS} fields")
        return Violation(self._fields[number].name, f"has more than the {self._most[number]} items that are allowed")

    async def _look_into(self, data: bytes, field: _Field, violations: list[Violation], turn: Turn) -> None:
        """Find a field that takes long to parse, or to look at."""
        descriptor = self._fields[field.number]
        size = field.end - field.value
        if descriptor.type == FieldDescriptor.TYPE_STRING and size > _LONGEST_NAME:
            violations.append(Violation(descriptor.name, f"has {size} bytes; at most {_LONGEST_NAME} are allowed"))
        elif (problem := await problem_on_the_wire(data, field.value, field.end, descriptor, turn)) is not None:
            violations.append(Violation(descriptor.name, f"{problem}; {_FEWER_VALUES}"))

    async def _count_values(self, message: Message, notable: Iterable[_Field], violations: list[Violation], turn: Turn) -> None:
        """Find a field of the message, or one of its items, with too many values."""
        for field in notable:
            descriptor = self._fields[field.number]
            if descriptor.message_type is None or descriptor.message_type.GetOptions().map_entry:
                continue
            value, path = getattr(message, descriptor.name), descriptor.name
            if descriptor.is_repeated:
                value, path = value[field.place], f"{path}[{field.place}]"
            most = MOST_COLUMN_VALUES if descriptor.message_type.full_name == _COLUMN else MOST_VALUES
            problem = await problem_in(value, most, turn)
            if problem is not None:
                violations.append(Violation(path, f"{problem}; {_FEWER_VALUES}"))
                return


def _rules(field: FieldDescriptor) -> validation_pb2.FieldRules:
    rules: validation_pb2.FieldRules = field.GetOptions().Extensions[validation_pb2.rules]
    return rules
