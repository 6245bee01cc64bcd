"""Columns of values, as batches carry them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from google.protobuf.struct_pb2 import ListValue

from ml_platform.errors import invalid
from ml_platform.v1.predictions_pb2 import (
    BatchPredictResponse,
    BoolValues,
    ColumnValues,
    DoubleValues,
    InputColumn,
    Int64Values,
    StringValues,
    VectorValues,
)
from ml_platform.values import EXACT_INTEGERS, NO_UNICODE, from_output, infinities, is_missing, to_struct

_LARGEST = 2**63


def to_column(name: str, values: Sequence[Any]) -> InputColumn:
    """A column of an input. None, NaT and NA are null; NaN in a column of numbers is the number it is, as in `predict`."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return InputColumn(name=name, values=ColumnValues(doubles=DoubleValues(values=values)))
    # Among numbers NaN is one of them; beside a text or a truth value it says that there is none.
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values if not is_missing(value))
    nulls = [at for at, value in enumerate(values) if is_missing(value) and not (numeric and isinstance(value, float))]
    absent = set(nulls)
    present = kinds if not nulls else {type(value) for at, value in enumerate(values) if at not in absent}
    return InputColumn(name=name, values=_of_kind(name, values, present, nulls))


def _of_kind(name: str, values: Sequence[Any], kinds: set[type], nulls: list[int]) -> ColumnValues:
    absent = set(nulls)
    if kinds == {str}:
        texts = ["" if at in absent else text for at, text in enumerate(values)]
        try:
            return ColumnValues(strings=StringValues(values=texts), nulls=nulls)
        except UnicodeEncodeError:
            raise invalid("rows", NO_UNICODE) from None
    if float in kinds and kinds <= {float, int} and all(_exact(number) for number in values):
        floats = [0.0 if at in absent else float(number) for at, number in enumerate(values)]
        return ColumnValues(doubles=DoubleValues(values=floats), nulls=nulls)
    if kinds == {bool}:
        truths = [at not in absent and truth for at, truth in enumerate(values)]
        return ColumnValues(booleans=BoolValues(values=truths), nulls=nulls)
    if kinds == {int} and all(at in absent or -_LARGEST <= number < _LARGEST for at, number in enumerate(values)):
        numbers = [0 if at in absent else number for at, number in enumerate(values)]
        return ColumnValues(integers=Int64Values(values=numbers), nulls=nulls)
    plain = to_struct({name: [None if at in absent else value for at, value in enumerate(values)]}, "rows").fields[name]
    return ColumnValues(any=ListValue(values=plain.list_value.values), nulls=nulls)


def _exact(number: object) -> bool:
    """Whether a float holds a number exactly."""
    return not isinstance(number, int) or abs(number) < EXACT_INTEGERS


def from_columns(response: BatchPredictResponse) -> Iterator[tuple[Any, ...]]:
    """The rows of outputs. NaN is None, as in the response to a single row."""
    integers, infinite = response.integer_outputs, response.infinite_outputs
    columns = [
        _plain(each.values, integer=each.name in integers, numbers=infinities(each.name in infinite)) for each in response.outputs
    ]
    return zip(*columns, strict=True)


def _plain(values: ColumnValues, *, integer: bool, numbers: Collection[str]) -> list[Any]:
    kind = values.WhichOneof("kind")
    if kind == "vectors":
        found: list[Any] = list(_vectors(values.vectors))
    elif kind == "any":
        found = [from_output(value, integer=integer, numbers=numbers) for value in values.any.values]
    elif kind == "doubles":
        found = [_number(number) for number in values.doubles.values]
    else:
        found = list(getattr(values, str(kind)).values)
    for at in values.nulls:
        found[at] = None
    return found


def _vectors(vectors: VectorValues) -> Iterator[Sequence[float | None]]:
    numbers = vectors.integers or [_number(number) for number in vectors.values]
    return (numbers[start : start + vectors.length] for start in range(0, len(numbers), vectors.length))


def _number(number: float) -> float | None:
    return None if math.isnan(number) else number
