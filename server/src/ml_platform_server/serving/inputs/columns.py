"""Decodes columns from protobuf to NumPy arrays, without a Python object per value where possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import struct_pb2

from ml_platform.v1.predictions_pb2 import (
    ColumnValues,
    InputColumn,
    VectorValues,
)
from ml_platform_server.errors import PlatformError, invalid
from ml_platform_server.serving.inputs import column_wire
from ml_platform_server.struct_values import plain
from ml_platform_server.turns import Turn

Array = npt.NDArray[Any]
# One value per row. Numbers and booleans are arrays, in which the null of a floating-point column is NaN; everything else is a
# list, in which null is None.
Values = Array | list[Any]

_NO_NULLS: Array = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class ColumnData:
    """One column of a request or of a feature read.

    Attributes:
        values: N values; protobuf Values are converted to plain values by `plain`.
        nulls: the positions of nulls, ascending; `values` holds placeholders there.
    """

    values: Array | Sequence[Any]
    nulls: Array

    def part(self, start: int, stop: int) -> ColumnData:
        """The rows from `start` to before `stop`."""
        first, last = np.searchsorted(self.nulls, (start, stop))
        return ColumnData(self.values[start:stop], self.nulls[first:last] - start)

    def plain(self) -> list[Any]:
        """The values as plain Python values, with None for null."""
        values = self.values.tolist() if isinstance(self.values, np.ndarray) else list(self.values)
        if values and isinstance(values[0], struct_pb2.Value):
            values = [plain(value) for value in values]
        for at in self.nulls.tolist():
            values[at] = None
        return values


async def decode_columns(columns: Sequence[InputColumn]) -> tuple[dict[str, ColumnData], int]:
    """Decode the columns of a request. Yields to the event loop between columns.

    Returns:
        The columns by name, and the number of rows.

    Raises:
        PlatformError: INVALID_FIELDS for columns of different lengths, without values, or with duplicate names.
    """
    found: dict[str, ColumnData] = {}
    rows, turn = -1, Turn()
    for at, column in enumerate(columns):
        where = f"columns[{at}].values"
        sent = _received(column.values, where)
        rows = len(sent.values) if rows < 0 else rows
        if len(sent.values) != rows:
            raise invalid(where, f"has {len(sent.values)} values, and the first column has {rows}")
        if column.name in found:
            raise invalid(f"columns[{at}].name", "is the name of another column too")
        found[column.name] = sent
        if turn.over:
            await turn.next()
    if rows < 1:
        raise invalid("columns[0].values", "must hold a value")
    return found, rows


def _received(values: ColumnValues, where: str) -> ColumnData:
    taken: Array | Sequence[Any]
    match values.WhichOneof("kind"):
        case "doubles":
            taken = column_wire.doubles(values.doubles)
        case "integers":
            taken = column_wire.integers(values.integers)
        case "booleans":
            taken = column_wire.booleans(values.booleans)
        case "strings":
            taken = list(values.strings.values)
        case "vectors":
            taken = _vectors(values.vectors, where)
        case "any":
            taken = values.any.values
        case _:
            raise invalid(where, "must hold values")
    nulls = np.array(values.nulls, np.int64) if values.nulls else _NO_NULLS
    if nulls.size and (nulls[-1] >= len(taken) or (np.diff(nulls) <= 0).any()):
        raise invalid(f"{where}.nulls", "must be positions among the values, growing")
    return ColumnData(taken, nulls)


def _vectors(vectors: VectorValues, where: str) -> Array:
    if vectors.values and vectors.integers:
        raise invalid(f"{where}.vectors", "must hold either values or integers")
    flat = np.array(vectors.integers, np.int64) if vectors.integers else np.array(vectors.values, np.float64)
    if vectors.length < 1 or flat.size % vectors.length:
        raise _uneven(where)
    return flat.reshape(-1, vectors.length)


def _uneven(where: str) -> PlatformError:
    return invalid(f"{where}.vectors", "must hold a whole number of vectors of the length given")


def from_array(array: Array) -> ColumnData:
    """An array as a column without nulls."""
    return ColumnData(array, _NO_NULLS)


def from_pylist(things: Sequence[Any]) -> ColumnData:
    """Plain values as a column: an array if all of them, nulls aside, are floats, integers or booleans, else a list."""
    kinds = set(map(type, things))
    nulls = np.array([at for at, thing in enumerate(things) if thing is None] if type(None) in kinds else (), np.int64)
    kinds.discard(type(None))
    dtype = _DTYPES.get(next(iter(kinds))) if len(kinds) == 1 else None
    if dtype is None:
        return ColumnData(things, nulls)
    numbers = [dtype(0) if thing is None else thing for thing in things] if nulls.size else things
    try:
        return ColumnData(np.array(numbers, dtype), nulls)
    except OverflowError:  # an integer of more than 64 bits
        return ColumnData(things, nulls)


def as_values(things: Sequence[Any]) -> Values:
    """Plain values as an array if all are floats, integers or booleans, without nulls; else as a list."""
    sent = from_pylist(things)
    return list(things) if sent.nulls.size or not isinstance(sent.values, np.ndarray) else sent.values


_DTYPES: dict[type, Any] = {float: np.float64, int: np.int64, bool: np.bool_}
