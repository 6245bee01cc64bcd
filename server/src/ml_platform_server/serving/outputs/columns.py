"""The predictions for many rows as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ml_platform_server.serving.inputs.columns import Array, Values
from ml_platform_server.serving.outputs.prediction import ROUNDING, TOLERANCE, probability

_MATRIX = 2


@dataclass(frozen=True, slots=True)
class ColumnPredictions:
    """The predictions of a model for N rows.

    Attributes:
        outputs: N values per output, by name; the prediction is first.
        probabilities: computes N probabilities on demand, NaN for a row without one; None if the model has none.
    """

    outputs: Mapping[str, Values]
    probabilities: Callable[[], Array] | None = None


class Outputs:
    """Collects the outputs of a batch from those of its parts."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._parts: list[tuple[Array, ColumnPredictions]] = []

    def add(self, rows: Array, answers: ColumnPredictions) -> None:
        """Add the predictions for the rows at these positions."""
        self._parts.append((rows, answers))

    def columns(self) -> dict[str, Values]:
        """All outputs by name, one value per row."""
        names = self._parts[0][1].outputs if self._parts else ()
        return {name: self._joined([(rows, answers.outputs[name]) for rows, answers in self._parts]) for name in names}

    def probabilities(self) -> Array | None:
        """One probability per row, NaN for a row without one; None if the model has none."""
        found = np.full(self._rows, np.nan)
        for rows, answers in self._parts:
            if answers.probabilities is None:
                return None
            found[rows] = answers.probabilities()
        return found if self._parts else None

    def answers(self) -> ColumnPredictions:
        """The predictions of all parts as one object."""
        given = all(part.probabilities is not None for _, part in self._parts)
        return ColumnPredictions(self.columns(), self._certain if given else None)

    def _certain(self) -> Array:
        found = self.probabilities()
        assert found is not None  # noqa: S101  # every part has them
        return found

    def _joined(self, parts: list[tuple[Array, Values]]) -> Values:
        if len(parts) == 1 and len(parts[0][0]) == self._rows:
            return parts[0][1]
        arrays = [values for _, values in parts if isinstance(values, np.ndarray)]
        if len(arrays) == len(parts) and len({(array.shape[1:], array.dtype) for array in arrays}) == 1:
            whole: Array = np.zeros((self._rows, *arrays[0].shape[1:]), arrays[0].dtype)
            for rows, values in parts:
                whole[rows] = values
            return whole
        things: list[Any] = [None] * self._rows
        for rows, values in parts:
            for row, thing in zip(rows.tolist(), values.tolist() if isinstance(values, np.ndarray) else values, strict=True):
                things[row] = thing
        return things


def clipped(given: Array) -> Array:
    """Clip probabilities that are outside [0, 1] by at most ROUNDING. Rows with a number further outside are not changed."""
    if not given.size or (given.min() >= 0 and given.max() <= 1):
        return given
    near = (given >= -ROUNDING) & (given <= 1 + ROUNDING)
    return np.where(near.all(axis=-1, keepdims=True), np.clip(given, 0, 1), given)


def likeliest(labels: Values, given: Array) -> Array:
    """Select one probability per row from a matrix: `prediction.probability`, vectorized. NaN for a row without one."""
    # If a model predicts all probabilities, they are its labels too.
    labelled = not isinstance(labels, np.ndarray) or labels.ndim == 1 or np.array_equal(labels, given)
    if given.ndim != _MATRIX or given.shape[1] < _MATRIX or not labelled:
        return np.full(len(given), np.nan)
    given = given.astype(np.float64, copy=False)
    sensible = ((given >= 0) & (given <= 1)).all(axis=1) & (np.abs(given.sum(axis=1) - 1) <= TOLERANCE)
    chosen = given[:, 1] if given.shape[1] == _MATRIX else given.max(axis=1)
    return np.where(sensible, chosen, np.nan)


def likeliest_of(labels: Sequence[object], given: Sequence[object], classes: Sequence[object] | None = None) -> Array:
    """As `likeliest`, row by row, for probabilities that are not a matrix."""
    chosen = [probability(label, each, classes) for label, each in zip(labels, given, strict=True)]
    return np.array([np.nan if each is None else each for each in chosen], np.float64)


def joined(parts: Sequence[ColumnPredictions]) -> ColumnPredictions:
    """Concatenate predictions for single rows."""
    whole = Outputs(len(parts))
    for row, answers in enumerate(parts):
        whole.add(np.array([row]), answers)
    return whole.answers()
