"""Counts what maps, Structs and lists of a large request hold, and weighs it.

A Struct of 90,000 entries takes 70 ms to parse, and any 100,000 values some 30 ms to be made into Python's: the event loop would
be held that long. So entries are counted on the wire, before they are parsed, and values before they are looked at.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from ml_platform_server.interceptors.validation.wire_fields import fields
from ml_platform_server.turns import Turn

MOST_ENTRIES = 10_000
"""Entries of one map or Struct: as many as a model may have columns."""

NOTABLE = 4 * MOST_ENTRIES
"""Bytes that hold no more entries than that."""

MOST_VALUES = 50_000
"""Values in the Structs and lists of one field, those in the values included."""

MOST_COLUMN_VALUES = 2 * MOST_VALUES
"""The same in a column of any values, which are made into Python's part by part."""

LOOKED_AT = 500
"""Fields or values that are looked at before the time is."""

_MOST_FIELDS = MOST_COLUMN_VALUES + 100
# Bytes that may be parsed at once where a message cannot be cut: in one row, one column, one tensor.
_MOST_AT_ONCE = 2 * 1024 * 1024
_TOO_MUCH = f"has an item of more than {_MOST_AT_ONCE} bytes that are not plain numbers"
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
# Where a message begins and ends, and of which type it is.
_Level = tuple[int, int, Descriptor]
_VALUE_HOLDERS = {"google.protobuf.Struct", "google.protobuf.ListValue", "google.protobuf.Value"}


async def problem_on_the_wire(data: bytes, start: int, end: int, field: FieldDescriptor, turn: Turn) -> str | None:
    """What is too much in a field whose value stands between two places; None if nothing is.

    Raises:
        DecodeError: there is no message.
    """
    if field.message_type is None:
        return _TOO_MUCH if _parsed_bytes(field, end - start) > _MOST_AT_ONCE else None
    walk = _Walk(data, turn)
    stack = [(start, end, field.message_type)]
    while stack:
        problem = await walk.problem(*stack.pop(), stack)
        if problem is not None:
            return problem
    return None


class _Walk:
    """Looks at the fields of a message and of the large messages in it, level by level."""

    def __init__(self, data: bytes, turn: Turn) -> None:
        self._data = data
        self._turn = turn
        self._looked_at = self._parsed = 0

    async def problem(self, start: int, end: int, message: Descriptor, below: list[_Level]) -> str | None:
        """What is too much on one level and those before it; appends the levels below."""
        inner = {field.number: field for field in message.fields}
        entries = {number: 0 for number, field in inner.items() if _is_map(field)}
        for number, value, stop in fields(self._data, start, end):
            self._looked_at += 1
            if not self._looked_at % LOOKED_AT and self._turn.over:
                await self._turn.next()
            if self._looked_at > _MOST_FIELDS:
                return f"has more than {MOST_COLUMN_VALUES} values"
            if number in entries:
                entries[number] += 1
                if entries[number] > MOST_ENTRIES:
                    return f"has more than {MOST_ENTRIES} entries"
            if (field := inner.get(number)) is None:
                continue
            if stop - value >= NOTABLE and field.message_type is not None:
                below.append((value, stop, field.message_type))
            else:
                self._parsed += _parsed_bytes(field, stop - value)
        return _TOO_MUCH if self._parsed > _MOST_AT_ONCE else None


def _parsed_bytes(field: FieldDescriptor, size: int) -> int:
    """How many bytes of so many are parsed rather than copied."""
    return 0 if field.type in _COPIED else size


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


async def problem_in(message: Any, most: int, turn: Turn) -> str | None:  # noqa: ANN401  # a message of any type
    """What is too many in a message's Structs and lists of values; None if nothing is."""
    count, visited, stack = 0, 0, list(_holders(message))
    while stack:
        each = stack.pop()
        kind = each.DESCRIPTOR.name
        items = each.fields.values() if kind == "Struct" else each.values if kind == "ListValue" else (each,)
        count += len(items)
        if count > most:
            return f"has more than {most} values"
        for item in items:
            visited += 1
            if not visited % LOOKED_AT and turn.over:
                await turn.next()
            which = item.WhichOneof("kind")
            if which == "list_value":
                stack.append(item.list_value)
            elif which == "struct_value":
                stack.append(item.struct_value)
    return None


def _holders(message: Any) -> list[Any]:  # noqa: ANN401  # the same
    """The Structs, lists and Values that are fields of a message, or of such a field, or the message itself."""
    if message.DESCRIPTOR.full_name in _VALUE_HOLDERS:
        return [message]
    found: list[Any] = []
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            found.extend(_holders(item))
    return found
