"""Values on their way between JSON and Feast's types: what fits, what can be made to fit, and what is refused."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from google.protobuf import struct_pb2

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType

# JSON's numbers are doubles: above this, neighbouring integers look the same.
EXACT = 2**53
INT32_END = 2**31
INT64_END = 2**63
LARGEST_FLOAT = 3.4028235677973366e38
_WHOLE = re.compile(r"\s*[+-]?[0-9]+\s*")


def coerce(value: object, value_type: ValueType.ValueType) -> object:
    """The value as the type holds it: "123" and 123.0 are the integer 123, an RFC 3339 text is a point in time.

    Raises:
        ValueError: it does not fit; the text says why and completes "the value ...".
    """
    if value_type == features_pb2.VALUE_TYPE_UNSPECIFIED:  # A type of Feast's that the contract does not know.
        return value
    return _COERCIONS[value_type](value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("is not text")


def _whole(end: int) -> Callable[[object], int]:
    def coerced(value: object) -> int:
        number = _whole_number(value)
        if -end <= number < end:
            return number
        raise ValueError(f"does not fit into {end.bit_length()} bits")

    return coerced


def _whole_number(value: object) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        if abs(value) > EXACT:
            raise ValueError("is too large for a JSON number to be exact; send it as text")
        return int(value)
    raise ValueError("is not a whole number")


def _double(value: object) -> float:
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    raise ValueError("is not a number")


def _float(value: object) -> float:
    number = _double(value)
    if math.isfinite(number) and abs(number) > LARGEST_FLOAT:
        raise ValueError("does not fit into a 32-bit floating-point number")
    return number


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("is not true or false")


def _moment(value: object) -> datetime:
    try:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, str):
            return _moment(datetime.fromisoformat(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError("is not a point in time, as RFC 3339 text or as seconds since 1970")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(_text(value), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("is not base64 text") from None


def _list_of(item: Callable[[object], object]) -> Callable[[object], list[object]]:
    def coerced(value: object) -> list[object]:
        if not isinstance(value, list | tuple):
            raise ValueError("is not a list")  # noqa: TRY004  # one kind of error for whatever does not fit
        return [item(one) for one in value]

    return coerced


_COERCIONS: Mapping[ValueType.ValueType, Callable[[object], object]] = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_INT32: _whole(INT32_END),
    features_pb2.VALUE_TYPE_INT64: _whole(INT64_END),
    features_pb2.VALUE_TYPE_FLOAT: _float,
    features_pb2.VALUE_TYPE_DOUBLE: _double,
    features_pb2.VALUE_TYPE_BOOL: _bool,
    features_pb2.VALUE_TYPE_TIMESTAMP: _moment,
    features_pb2.VALUE_TYPE_BYTES: _bytes,
    features_pb2.VALUE_TYPE_STRING_LIST: _list_of(_text),
    features_pb2.VALUE_TYPE_INT64_LIST: _list_of(_whole(INT64_END)),
    features_pb2.VALUE_TYPE_FLOAT_LIST: _list_of(_float),
    features_pb2.VALUE_TYPE_DOUBLE_LIST: _list_of(_double),
}


def plain(value: struct_pb2.Value) -> object:
    """A plain Python value from a JSON value."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: plain(one) for key, one in value.struct_value.fields.items()}
    if kind == "list_value":
        return [plain(one) for one in value.list_value.values]
    return getattr(value, kind) if kind and kind != "null_value" else None


def plain_fields(struct: struct_pb2.Struct) -> dict[str, object]:
    """The plain Python values of a JSON object."""
    return {key: plain(value) for key, value in struct.fields.items()}


def json_value(value: object) -> struct_pb2.Value:
    """A JSON value from a plain one. What JSON lacks becomes text: bytes, times, and integers too large to be exact."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, float) or (isinstance(value, int) and abs(value) <= EXACT):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, list | tuple | set | frozenset):
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=[json_value(one) for one in value]))
    if isinstance(value, dict):
        return struct_pb2.Value(struct_value=json_struct(value))
    return struct_pb2.Value(string_value=_as_text(value))


def json_struct(fields: Mapping[str, object]) -> struct_pb2.Struct:
    """A JSON object from plain values."""
    return struct_pb2.Struct(fields={str(key): json_value(value) for key, value in fields.items()})


def _as_text(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)
