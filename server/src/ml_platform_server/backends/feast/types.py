"""Feast's types and values beside the contract's. Imports Feast: only for the pool."""

from __future__ import annotations

import math
from datetime import datetime

from feast.protos.feast.types import Value_pb2
from feast.type_map import feast_value_type_to_python_type
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp
from feast.value_type import ValueType as FeastValueType

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast.plan import OTHER_TYPE, Unreadable

FEAST_TYPES: dict[ValueType.ValueType, FeastType] = {
    features_pb2.VALUE_TYPE_STRING: String,
    features_pb2.VALUE_TYPE_INT32: Int32,
    features_pb2.VALUE_TYPE_INT64: Int64,
    features_pb2.VALUE_TYPE_FLOAT: Float32,
    features_pb2.VALUE_TYPE_DOUBLE: Float64,
    features_pb2.VALUE_TYPE_BOOL: Bool,
    features_pb2.VALUE_TYPE_TIMESTAMP: UnixTimestamp,
    features_pb2.VALUE_TYPE_BYTES: Bytes,
    features_pb2.VALUE_TYPE_STRING_LIST: Array(String),
    features_pb2.VALUE_TYPE_INT64_LIST: Array(Int64),
    features_pb2.VALUE_TYPE_FLOAT_LIST: Array(Float32),
    features_pb2.VALUE_TYPE_DOUBLE_LIST: Array(Float64),
}
# By the name of Feast's value type, which entities and features share.
_BY_NAME = {feast_type.to_value_type().name: value_type for value_type, feast_type in FEAST_TYPES.items()}

_FIELDS = {
    features_pb2.VALUE_TYPE_STRING: "string_val",
    features_pb2.VALUE_TYPE_INT32: "int32_val",
    features_pb2.VALUE_TYPE_INT64: "int64_val",
    features_pb2.VALUE_TYPE_FLOAT: "float_val",
    features_pb2.VALUE_TYPE_DOUBLE: "double_val",
    features_pb2.VALUE_TYPE_BOOL: "bool_val",
    features_pb2.VALUE_TYPE_BYTES: "bytes_val",
}
_LIST_FIELDS = {
    features_pb2.VALUE_TYPE_STRING_LIST: "string_list_val",
    features_pb2.VALUE_TYPE_INT64_LIST: "int64_list_val",
    features_pb2.VALUE_TYPE_FLOAT_LIST: "float_list_val",
    features_pb2.VALUE_TYPE_DOUBLE_LIST: "double_list_val",
}
_SCALARS = frozenset(_FIELDS.values())
# Feast once kept UUIDs as text, and reads both; bytes of special kinds have no field of their own.
_SEVERAL_FIELDS = frozenset(
    kind for kind in FeastValueType if "UUID" in kind.name or kind.name in ("UNKNOWN", "NULL", "PDF_BYTES", "IMAGE_BYTES")
)


def value_type_named(name: str) -> ValueType.ValueType:
    """The contract's type for one of Feast's value types; unspecified if the contract knows none."""
    return _BY_NAME.get(name, features_pb2.VALUE_TYPE_UNSPECIFIED)


def to_feast(value: object, value_type: ValueType.ValueType) -> Value_pb2.Value:
    """A value that has been coerced to its type, as Feast stores it. None and NaN are stored as missing."""
    stored = Value_pb2.Value()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return stored
    if value_type in _LIST_FIELDS:
        items = getattr(stored, _LIST_FIELDS[value_type])
        items.SetInParent()  # An empty list is not a missing one.
        items.val.extend(value)
    elif isinstance(value, datetime):
        stored.unix_timestamp_val = int(value.timestamp())
    else:
        setattr(stored, _FIELDS[value_type], value)
    return stored


def stored_as(feast_type: FeastType) -> str:
    """The field of Feast's Value that holds the values of a type; "" if there is not one field for all of them."""
    kind = feast_type.to_value_type()
    if kind in _SEVERAL_FIELDS:
        return ""
    found = Value_pb2.Value.DESCRIPTOR.fields_by_number.get(kind.value)  # Feast gives a type the number of its field.
    return found.name if found is not None else ""


def from_feast(value: Value_pb2.Value, field: str = "") -> object | None:
    """The plain value of one that Feast stored; None if it is missing.

    Where it must be in one field of Feast's Value, and is in another, it is OTHER_TYPE. A time that no datetime can hold is
    Unreadable.
    """
    found = value.WhichOneof("val")
    if found is None or found == "null_val":
        return None
    if field and found != field:
        return OTHER_TYPE
    if found in _SCALARS:
        plain: object = getattr(value, found)
        return None if isinstance(plain, float) and math.isnan(plain) else plain
    try:
        other: object | None = feast_value_type_to_python_type(value)
    except (ValueError, OverflowError, OSError):
        return Unreadable("is outside of the years 1 to 9999" if "timestamp" in found else "cannot be read")
    return other
