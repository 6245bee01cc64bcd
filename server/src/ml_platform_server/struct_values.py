"""Between protobuf's Value and plain Python."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf import struct_pb2

# A JSON number is a double: from this on, it may stand for a neighbouring whole number. So smaller ones alone are exact.
SAFE_INTEGER_LIMIT = 2**53
INEXACT = "is 2^53 or larger, which a floating-point number may not hold exactly; send it as text"
# Integers and numbers as protobuf's JSON writes them as text: no white space, no sign but a minus. Both are bounded, so that no
# text makes work.
INTEGER_TEXT = re.compile(r"-?[0-9]{1,20}")
NUMBER_TEXT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity")
LONGEST_NUMBER_TEXT = 64
_JSON_KINDS: Mapping[type, str] = {
    type(None): "null",
    bool: "true or false",
    str: "text",
    list: "a list",
    dict: "an object",
    float: "a number",
    int: "a number",
}


def plain(value: struct_pb2.Value) -> object:
    """What a Value holds: None, bool, float, str, list or dict."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        return value.number_value
    if kind == "string_value":
        return value.string_value
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        # What a Value does not hold reads as 0 or "". So what reads as something else is what it holds.
        return [item.number_value or item.string_value or plain(item) for item in value.list_value.values]
    if kind == "struct_value":
        return {name: plain(item) for name, item in value.struct_value.fields.items()}
    return None


def json_kind(value: object) -> str:
    """The kind of a plain value, for error messages. The value itself may be private and is not shown."""
    return _JSON_KINDS.get(type(value), "something else")


def plain_fields(struct: struct_pb2.Struct) -> dict[str, object]:
    """What a Struct holds, by name."""
    return {name: plain(value) for name, value in struct.fields.items()}


def to_value(thing: object) -> struct_pb2.Value:
    """A Value that holds a plain thing.

    What JSON cannot say becomes what it can: NaN null; infinity, times, bytes, whole numbers too large to be exact, and whatever
    else there may be, text.
    """
    value = struct_pb2.Value()
    _fill(value, thing)
    return value


def to_feature_value(thing: object) -> struct_pb2.Value:
    """A Value that holds the value of a feature, so that a value is never reported as missing.

    As `to_value`, but NaN inside of a list is text as in protobuf's JSON. NaN alone is a missing value: null.
    """
    return to_value(thing if isinstance(thing, float) and math.isnan(thing) else _named(thing))


def to_struct(things: Mapping[str, object]) -> struct_pb2.Struct:
    """A Struct that holds plain things by name."""
    struct = struct_pb2.Struct()
    for name, thing in things.items():
        _fill(struct.fields[name], thing)
    return struct


def _fill(value: struct_pb2.Value, thing: object) -> None:
    match thing:
        case bool():
            value.bool_value = thing
        case float() | int():
            _fill_number(value, thing)
        case str():
            value.string_value = thing
        case list() | tuple() | set() | frozenset():
            value.list_value.SetInParent()
            for item in thing:
                _fill(value.list_value.values.add(), item)
        case dict():
            value.struct_value.SetInParent()
            for name, item in thing.items():
                _fill(value.struct_value.fields[str(name)], item)
        case None:
            value.null_value = struct_pb2.NULL_VALUE
        case _:
            value.string_value = _text(thing)


def _named(thing: object) -> object:
    """The thing with a text in place of every NaN."""
    match thing:
        case float() if math.isnan(thing):
            return "NaN"
        case list() | tuple() | set() | frozenset():
            return [_named(item) for item in thing]
        case dict():
            return {name: _named(item) for name, item in thing.items()}
    return thing


def _text(thing: object) -> str:
    if isinstance(thing, bytes):
        return base64.b64encode(thing).decode()
    return as_text(thing) if isinstance(thing, datetime) else str(thing)


def _fill_number(value: struct_pb2.Value, number: float) -> None:
    if isinstance(number, int) and abs(number) >= SAFE_INTEGER_LIMIT:
        value.string_value = str(number)
    elif math.isfinite(number):
        value.number_value = number
    elif math.isnan(number):
        value.null_value = struct_pb2.NULL_VALUE
    else:
        value.string_value = infinity(number)


def infinity(number: float) -> str:
    """An infinite number as protobuf's JSON has it."""
    return "Infinity" if number > 0 else "-Infinity"


def as_text(time: datetime) -> str:
    """A point in time as RFC 3339 has it. One without a zone is in UTC."""
    aware = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return aware.isoformat().replace("+00:00", "Z")
