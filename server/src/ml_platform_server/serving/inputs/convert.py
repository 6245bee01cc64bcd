"""Converts whole columns of sent or stored values to the types of a model's columns: a vectorized `Column.taken`.

The vectorized path handles numbers, booleans and strings. All other values go through `Column.taken` one by one, so both paths
give the same values and refuse the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ml_platform_server.serving.inputs.columns import Array, ColumnData, Values
from ml_platform_server.serving.inputs.signature import LARGEST, NULL, RANGES, CoercionError, Column, Refusal
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT
from ml_platform_server.turns import Turn

# Values that are converted one by one before the event loop may run again: any of them may be a list.
PART = 256


@dataclass(slots=True)
class ConvertedColumn:
    """A column in the model's type.

    Attributes:
        values: N values; placeholders at the positions in `bad`.
        bad: per position of an invalid value, the problem.
    """

    values: Values
    bad: dict[int, str] = field(default_factory=dict)


def convert(column: Column, sent: ColumnData) -> ConvertedColumn:
    """Convert a column to the type of a model's column. Nulls become NaN or None, or are invalid if the column is required."""
    sent = _nan_as_null(column, sent)
    return _at_once(column, sent, first=False) or _singly(column, sent, first=False)


async def convert_in_turns(column: Column, sent: ColumnData, turn: Turn, *, first: bool = False) -> ConvertedColumn:
    """As `convert`, but yields to the event loop while converting values one by one.

    With `first`, conversion may stop at the first invalid value, as the caller then refuses the whole column.
    """
    sent = _nan_as_null(column, sent)
    converted = _at_once(column, sent, first=first)
    if converted is not None:
        return converted
    whole = ConvertedColumn([])
    assert isinstance(whole.values, list)  # noqa: S101  # created above
    for start in range(0, len(sent.values), PART):
        part = _singly(column, sent.part(start, start + PART), first=first)
        whole.values.extend(part.values)
        whole.bad.update((start + at, problem) for at, problem in part.bad.items())
        if first and part.bad:
            break
        if turn.over:
            await turn.next()
    return whole


def _at_once(column: Column, sent: ColumnData, *, first: bool) -> ConvertedColumn | None:
    """Convert with NumPy; None if the values have to be converted one by one."""
    converted = _arrays(column, sent, first=first) if isinstance(sent.values, np.ndarray) else None
    if converted is None:
        return _texts(column, sent)
    if sent.nulls.size:
        if column.required:
            converted.bad.update(dict.fromkeys(sent.nulls.tolist(), NULL))
        else:
            converted.values = with_nulls(converted.values, sent.nulls.tolist())
    return converted


def _nan_as_null(column: Column, sent: ColumnData) -> ColumnData:
    """Replace NaN by null if NaN is not a value of the column."""
    values = sent.values
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim != 1 or column.holds_nan:
        return sent
    absent = np.isnan(values)
    if not absent.any():
        return sent
    absent[sent.nulls] = True
    return ColumnData(np.where(absent, 0, values), np.flatnonzero(absent))


def with_nulls(values: Values, nulls: list[int]) -> Values:
    """Set these positions to null: NaN in floating-point arrays, else None."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        values = values.copy()
        values[nulls] = np.nan
        return values
    things: list[Any] = values.tolist() if isinstance(values, np.ndarray) else values
    for at in nulls:
        things[at] = None
    return things


def kind_of(column: Column) -> str:
    """The element type of a column, as MLflow or NumPy calls it; "" if the vectorized path does not support it."""
    if not column.type.startswith("tensor("):
        return column.type if column.type in _AT_ONCE or column.type == "string" else ""
    element = column.type.removeprefix("tensor(").removesuffix(")")
    if element in _AT_ONCE:
        return element
    if element.startswith("float"):
        return "double"
    return "boolean" if element.startswith("bool") else "string"


def _arrays(column: Column, sent: ColumnData, *, first: bool) -> ConvertedColumn | None:
    """Convert numbers and booleans with NumPy; None if the values have to be converted one by one."""
    array = sent.values
    assert isinstance(array, np.ndarray)  # noqa: S101  # checked by the caller
    fits = column.shape in ((), (1,)) if array.ndim == 1 else _same_shape(column.shape, array.shape[1:])
    at_once = _AT_ONCE.get(kind_of(column))
    found = at_once(array) if at_once and fits else None
    if found is None:
        return None
    values, good = found
    if column.refusal is not None and values.dtype.kind == "f":
        good = _unrefused(values, column.refusal, good)
    converted = ConvertedColumn(values)
    if good is not None and not good.all():
        rows = good if good.ndim == 1 else good.reshape(len(good), -1).all(axis=1)
        bad = np.setdiff1d(np.flatnonzero(~rows), sent.nulls, assume_unique=True)
        for at in bad[:1].tolist() if first else bad.tolist():
            converted.bad[at] = _refusal(column, array[at].tolist())
    return converted


def _unrefused(values: Array, refusal: Refusal, good: Array | None) -> Array:
    """A mask of the values that are good and that the model does not refuse."""
    # Compared as a double: as a 32-bit float, a large limit would be infinity.
    within = np.abs(values) <= np.float64(refusal.largest)
    if not refusal.missing:
        within |= np.isnan(values)
    return within if good is None else within & good


def _same_shape(wanted: Sequence[int], given: Sequence[int]) -> bool:
    return len(wanted) == len(given) and all(want in (-1, size) for want, size in zip(wanted, given, strict=True))


def _refusal(column: Column, value: object) -> str:
    try:
        column.convert(value)
    except CoercionError as error:
        return str(error)
    raise AssertionError(f"{column.type} takes one by one what it refuses at once")


def _texts(column: Column, sent: ColumnData) -> ConvertedColumn | None:
    if kind_of(column) != "string" or column.shape or sent.nulls.size or not set(map(type, sent.values)) <= {str}:
        return None
    return ConvertedColumn(list(sent.values))


def _singly(column: Column, sent: ColumnData, *, first: bool) -> ConvertedColumn:
    converted = ConvertedColumn([])
    assert isinstance(converted.values, list)  # noqa: S101  # created above
    for at, thing in enumerate(sent.plain()):
        value = None
        try:
            value = column.taken(thing)
        except CoercionError as error:
            converted.bad[at] = str(error)
            if first:
                break
        converted.values.append(value)
    return converted


# The result of a vectorized conversion of floats, integers or booleans: the values and a mask of the valid ones, None if all are
# valid. A conversion returns None if it does not support the kind of the array.
Taken = tuple[Array, Array | None]


def _double(array: Array) -> Taken | None:
    if array.dtype.kind == "f":
        return array, None
    return None if array.dtype.kind == "b" else (array.astype(np.float64), None)


def _narrow(array: Array, largest: float) -> Taken | None:
    if array.dtype.kind == "b":
        return None
    if array.dtype.kind == "f" and np.finfo(array.dtype).max <= largest:
        return array, None
    values = array.astype(np.float64, copy=False)
    return values, ~(np.abs(values) > largest) | np.isinf(values)


def _whole(array: Array, limits: tuple[int, int]) -> Taken | None:
    if array.dtype.kind == "b":
        return None
    good: Array | None = None
    if array.dtype.kind == "f":
        good = (np.abs(array) < SAFE_INTEGER_LIMIT) & (np.floor(array) == array)
        array = np.where(good, array, 0).astype(np.int64)
    held = np.iinfo(array.dtype)
    if limits[0] > held.min or limits[1] < held.max:
        within = (array >= limits[0]) & (array <= limits[1])
        good = within if good is None else good & within
    return array, good


def _boolean(array: Array) -> Taken | None:
    if array.dtype.kind == "b":
        return array, None
    return array == 1, (array == 0) | (array == 1)


AtOnce = Callable[[Array], Taken | None]
_AT_ONCE: dict[str, AtOnce] = {
    "double": _double,
    "boolean": _boolean,
    **{kind: partial(_narrow, largest=largest) for kind, largest in LARGEST.items()},
    **{kind: partial(_whole, limits=limits) for kind, limits in RANGES.items()},
}
