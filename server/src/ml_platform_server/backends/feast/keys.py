"""Checks the rows that callers send against the columns that Feast expects, and turns their values into the columns' types."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast import errors, values


@dataclass(frozen=True, slots=True)
class Column:
    """A name and the type of the values under it."""

    name: str
    value_type: ValueType.ValueType


def key_values(columns: Collection[Column], row: Mapping[str, object], where: str, *, strict: bool = False) -> dict[str, object]:
    """The values of the key columns of one row, each of its column's type. `strict` refuses further columns.

    Raises:
        PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID.
    """
    names = [column.name for column in columns]
    missing = [name for name in names if row.get(name) is None]
    if missing:
        raise errors.entity_mismatch(where, names, f"lacks {', '.join(missing)}")
    unknown = sorted(set(row) - set(names)) if strict else []
    if unknown:
        raise errors.entity_mismatch(where, names, f"has {', '.join(unknown)}, which is no key here")
    return {column.name: _fitted(column, row[column.name], where, key=True) for column in columns}


def feature_value(column: Column, value: object, where: str) -> object:
    """A feature's value in its type; None stays None.

    Raises:
        PlatformError: FEATURE_VALUE_INVALID.
    """
    return None if value is None else _fitted(column, value, where)


def _fitted(column: Column, value: object, where: str, *, key: bool = False) -> object:
    try:
        if key and column.value_type == features_pb2.VALUE_TYPE_STRING and isinstance(value, int | float):
            value = _number_as_text(value)
        return values.coerce(value, column.value_type)
    except ValueError as problem:
        kind = ValueType.Name(column.value_type).removeprefix("VALUE_TYPE_")
        raise errors.value_invalid(where, column.name, kind, str(problem)) from None


def _number_as_text(value: float) -> object:
    """A key that is text may come as a number, because it looks like one: 123.0 is "123". Raises ValueError if it is inexact."""
    if isinstance(value, float) and value.is_integer():
        value = values.exact(value)
    return str(value) if type(value) is int else value
