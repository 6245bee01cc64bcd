"""What an ONNX graph gives, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol, cast

import numpy as np

from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.outputs import prediction
from ml_platform_server.serving.outputs.columns import ColumnPredictions, clipped, likeliest, likeliest_of
from ml_platform_server.serving.outputs.prediction import probability

MATRIX = 2
PROBABILITY = "probability"
# In a graph's metadata if its numbers for a row's classes do not add up to one, but for some rows by chance.
SCORES = "ml_platform.scores"


class GraphOutput(Protocol):
    """What ONNX Runtime tells of an output (onnxruntime.NodeArg)."""

    name: str
    type: str
    shape: list[object]


def described(output: GraphOutput) -> tuple[str, str, list[int]]:
    """An output's name, type and shape as the answers have it: a column of single values has one dimension."""
    if not output.type.startswith("tensor("):
        return output.name, output.type, [-1]
    tail = [size if isinstance(size, int) else -1 for size in output.shape[1:]]
    return output.name, output.type, [-1] if tail == [1] else [-1, *tail]


class RowCountError(ValueError):
    """An output does not have one entry per row."""


class OutputReader:
    """Reads the outputs of one graph. Which of them are class probabilities is found out once, from names and types.

    Args:
        outputs: the graph's.
        metadata: the graph's own, in which the deployment pipeline says of some that their numbers are no probabilities.
    """

    def __init__(self, outputs: Sequence[GraphOutput], metadata: Mapping[str, str] = MappingProxyType({})) -> None:
        self._names = [output.name for output in outputs]
        self.probabilities = None if SCORES in metadata else _probabilities_at(outputs)
        self.integers = frozenset(output.name for output in outputs if output.type.startswith(("tensor(int", "tensor(uint")))

    def read(self, found: Sequence[object], rows: int) -> tuple[dict[str, list[object]], list[float | None] | None]:
        """The outputs by name, one plain value a row, and each row's probability if the graph is a classifier that gives them."""
        outputs = {name: _per_row(output, rows) for name, output in zip(self._names, self._clipped(found), strict=True)}
        at = self.probabilities
        if at is None:
            return outputs, None
        labels = outputs[self._names[0]]
        return outputs, [probability(label, given) for label, given in zip(labels, outputs[self._names[at]], strict=True)]

    def read_columns(self, found: Sequence[object], rows: int) -> ColumnPredictions:
        """The outputs by name as whole columns, and the rows' probabilities if the graph is a classifier that gives them."""
        outputs = {name: _column(output, rows) for name, output in zip(self._names, self._clipped(found), strict=True)}
        if self.probabilities is None:
            return ColumnPredictions(outputs)
        labels, given = outputs[self._names[0]], outputs[self._names[self.probabilities]]
        if isinstance(given, np.ndarray):
            return ColumnPredictions(outputs, partial(likeliest, labels, given))
        named = labels.tolist() if isinstance(labels, np.ndarray) else labels
        return ColumnPredictions(outputs, partial(likeliest_of, named, given))

    def _clipped(self, found: Sequence[object]) -> Sequence[object]:
        """The outputs, without what rounding brought beyond 0 and 1 in the probabilities."""
        at = self.probabilities
        if at is None:
            return found
        given = found[at]
        settled = clipped(given) if isinstance(given, np.ndarray) else _clipped_maps(given)
        return found if settled is given else [*found[:at], settled, *found[at + 1 :]]


def _clipped_maps(given: object) -> object:
    """Probabilities by class, as graphs with a ZipMap give them."""
    if not isinstance(given, list) or not all(isinstance(row, dict) and row for row in given):
        return given
    settled = [prediction.clipped([*row.values()]) for row in given]
    return [row if values is None else dict(zip(row, values, strict=True)) for row, values in zip(given, settled, strict=True)]


def _probabilities_at(outputs: Sequence[GraphOutput]) -> int | None:
    """The position of the class probabilities of a graph whose first output is a label, or these probabilities again."""
    labels = outputs[0].type in ("tensor(int64)", "tensor(int32)", "tensor(string)", "tensor(bool)")
    for at, output in enumerate(outputs[1:], start=1):
        if not labels:
            # A model that predicts all probabilities: its first output is the same as this one.
            if output.name == PROBABILITY and output.type == outputs[0].type:
                return at
            continue
        scores = output.type.startswith("seq(map(") or (output.type in ("tensor(float)", "tensor(double)"))
        if scores and ("prob" in output.name.lower() or len(outputs) == MATRIX):
            return at
    return None


def _per_row(output: object, rows: int) -> list[object]:
    """One plain value a row; a column of single values is given as single values."""
    if isinstance(output, np.ndarray):
        return _array_per_row(output, rows)
    if isinstance(output, list) and len(output) == rows:
        return [_entry(item) for item in output]
    raise RowCountError("an output that is not one value a row")


def _array_per_row(array: np.ndarray[Any, np.dtype[Any]], rows: int) -> list[object]:
    return cast(list[object], _squeezed(array, rows).tolist())


def _squeezed(array: np.ndarray[Any, np.dtype[Any]], rows: int) -> np.ndarray[Any, np.dtype[Any]]:
    if array.ndim == 0 and rows == 1:
        array = array.reshape(1)
    if array.ndim == 0 or array.shape[0] != rows:
        raise RowCountError(f"an output of shape {array.shape} for {rows} rows")
    return array.reshape(rows) if array.ndim == MATRIX and array.shape[1] == 1 else array


def _column(output: object, rows: int) -> Values:
    """One value a row, as an array where it is numbers."""
    if isinstance(output, np.ndarray) and output.dtype.kind in "fiub":
        return _squeezed(output, rows)
    return _per_row(output, rows)


def _entry(item: object) -> object:
    if isinstance(item, dict):
        return {str(name): value for name, value in item.items()}
    return item.tolist() if isinstance(item, np.ndarray) else item
