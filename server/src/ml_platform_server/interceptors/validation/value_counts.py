"""Counts what maps, Structs and lists of a large request hold.

A Struct of 90,000 entries takes 70 ms to parse, and any 100,000 values some 30 ms to be made into Python's: the event loop would
be held that long. So entries are counted on the wire, before they are parsed, and values before they are looked at.
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.descriptor import Descriptor

from ml_platform_server.interceptors.validation.wire_fields import fields

MOST_ENTRIES = 10_000
"""Entries of one map or Struct: as many as a model may have columns."""

NOTABLE = 4 * MOST_ENTRIES
"""Bytes that hold no more entries than that."""

MOST_VALUES = 50_000
"""Values in the Structs and lists of one field, those in the values included."""

MOST_COLUMN_VALUES = 2 * MOST_VALUES
"""The same in a column of any values, which are made into Python's part by part."""

_MOST_FIELDS = MOST_COLUMN_VALUES + 100
# Fields that are looked at without a break.
_TURN = 20_000
# Values, which take longer: those that are lists and objects are looked into.
_VALUES_A_TURN = 5_000
_VALUE_HOLDERS = {"google.protobuf.Struct", "google.protobuf.ListValue", "google.protobuf.Value"}


async def problem_on_the_wire(data: bytes, start: int, end: int, message: Descriptor) -> str | None:
    """What is too many in a message that stands between two places; None if nothing is.

    Raises:
        DecodeError: there is no message.
    """
    stack, looked_at = [(start, end, message)], 0
    while stack:
        start, end, message = stack.pop()
        inner = {field.number: field.message_type for field in message.fields if field.message_type is not None}
        entries = {number: 0 for number, kind in inner.items() if kind.GetOptions().map_entry}
        for number, value, stop in fields(data, start, end):
            looked_at += 1
            if not looked_at % _TURN:
                await asyncio.sleep(0)
            if looked_at > _MOST_FIELDS:
                return f"has more than {MOST_COLUMN_VALUES} values"
            if number in entries:
                entries[number] += 1
                if entries[number] > MOST_ENTRIES:
                    return f"has more than {MOST_ENTRIES} entries"
            if stop - value >= NOTABLE and number in inner:
                stack.append((value, stop, inner[number]))
    return None


async def problem_in(message: Any, most: int = MOST_VALUES) -> str | None:  # noqa: ANN401  # a message of any type
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
            if not visited % _VALUES_A_TURN:
                await asyncio.sleep(0)
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
