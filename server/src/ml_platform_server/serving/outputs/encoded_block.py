"""Encodes the predictions for a batch of rows at once.

If all outputs are numbers, the encoded rows differ only in the bytes of these numbers. One encoded row is therefore a template,
and NumPy writes the numbers of all rows into copies of it. This costs a fraction of encoding row by row, which is the largest
cost of a prediction after gRPC itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from struct import Struct, pack
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform_server.serving.outputs import encode
from ml_platform_server.serving.outputs.columns import ColumnPredictions
from ml_platform_server.serving.outputs.encode import encoded
from ml_platform_server.serving.outputs.prediction import PlainPrediction
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT

Array = npt.NDArray[Any]
Shapes = tuple[tuple[str, int | None], ...]
"""The shape of an encoded row: pairs of name and width. The first pair is the probability: its name is empty, and its width is 1,
or None if there is none. The outputs follow; their width is None for a single number. Rows of one shape share a template."""
# A row with more numbers is encoded on its own, because the copies are filled number by number.
MOST_NUMBERS = 32
_MATRIX = 2


class EncodedPrediction:
    """One row of a block: its bytes, which most callers need, and a `PlainPrediction` decoded on first access."""

    __slots__ = ("_at", "_block", "_encoded", "_made")

    def __init__(self, block: EncodedBatch, at: int, encoded: bytes) -> None:
        self._block = block
        self._at = at
        self._encoded = encoded
        self._made: PlainPrediction | None = None

    @property
    def encoded(self) -> bytes:
        """See PlainPrediction."""
        return self._encoded

    @property
    def _answer(self) -> PlainPrediction:
        if self._made is None:
            self._made = self._block.answer(self._at)
        return self._made

    @property
    def prediction(self) -> object:
        """See PlainPrediction."""
        return self._answer.prediction

    @property
    def probability(self) -> float | None:
        """See PlainPrediction."""
        return self._answer.probability

    @property
    def outputs(self) -> Mapping[str, object]:
        """See PlainPrediction."""
        return self._answer.outputs


class EncodedBatch:
    """The predictions of a batch of N rows, if all of them are finite numbers.

    Args:
        outputs: by name, the prediction first; arrays of shape [N] or [N, width].
        probabilities: N probabilities, or None if the model has none.
    """

    def __init__(self, outputs: Mapping[str, Array], probabilities: Array | None) -> None:
        self._outputs = outputs
        self._probabilities = probabilities

    @classmethod
    def of(cls, columns: ColumnPredictions) -> EncodedBatch | None:
        """The block of a model's predictions; None if an output is not finite numbers, or if a row has more than MOST_NUMBERS."""
        arrays: dict[str, Array] = {}
        for name, values in columns.outputs.items():
            if not isinstance(values, np.ndarray) or not _writable(values):
                return None
            arrays[name] = values
        probabilities = columns.probabilities() if columns.probabilities is not None else None
        if probabilities is not None and not np.isfinite(probabilities).all():
            return None
        return cls(arrays, probabilities) if sum(_width(values) or 1 for values in arrays.values()) <= MOST_NUMBERS else None

    @property
    def shapes(self) -> Shapes:
        """The shape of every row."""
        return (("", None if self._probabilities is None else 1), *((name, _width(each)) for name, each in self._outputs.items()))

    def answer(self, at: int) -> PlainPrediction:
        """The prediction of one row, without its bytes."""
        outputs = {name: values[at].tolist() for name, values in self._outputs.items()}
        probability = None if self._probabilities is None else float(self._probabilities[at])
        return PlainPrediction(next(iter(outputs.values())), probability, outputs)

    def answers(self, template: Template) -> list[EncodedPrediction]:
        """The predictions of all rows, with their bytes."""
        whole, size = template.filled(list(self._numbers())), template.size
        return [EncodedPrediction(self, at, whole[at * size : (at + 1) * size]) for at in range(len(whole) // size)]

    def _numbers(self) -> Iterator[Array]:
        """The numbers in the order of an encoded row, each as an array over all rows."""
        first, *_ = self._outputs.values()
        yield from _columns(first)
        if self._probabilities is not None:
            yield self._probabilities
        for values in self._outputs.values():
            yield from _columns(values)


class Template:
    """The bytes of one encoded row with placeholders for its numbers.

    Args:
        shapes: the shape of the rows. A row is encoded with marker numbers, whose positions are then found in the bytes.
        integers: the names of the integer outputs.
    """

    def __init__(self, shapes: Shapes, integers: Collection[str] = ()) -> None:
        (_, probabilities), *outputs_shapes = shapes
        marks = iter([mark + 0.5 for mark in range(4 * MOST_NUMBERS)])
        taken: list[float] = []

        def mark(width: int | None) -> object:
            new = [next(marks) for _ in range(width or 1)]
            taken.extend(new)
            return new[0] if width is None else new

        prediction, probability = mark(outputs_shapes[0][1]), mark(None) if probabilities else None
        outputs = {name: mark(width) for name, width in outputs_shapes}
        first = outputs_shapes[0][0]
        names = [name for name in outputs if name in integers]
        types = encode.integers(names, prediction=first in integers)
        row = encoded(PlainPrediction(prediction, probability, outputs)) + types  # type: ignore[arg-type]  # a float
        self._places = [row.index(pack("<d", each)) for each in taken]
        self._row = np.frombuffer(row, np.uint8)
        self.size = len(row)
        # For single rows: the bytes between the numbers, and the struct that packs both.
        ends = [0, *(place + 8 for place in self._places)]
        between = [row[end:place] for end, place in zip(ends, [*self._places, len(row)], strict=True)]
        self._pieces: list[Any] = [each for piece in between for each in (piece, 0.0)][:-1]
        self._pack = Struct("<" + "d".join(f"{len(piece)}s" for piece in between)).pack

    def row(self, numbers: Sequence[float]) -> bytes:
        """Encode one row."""
        pieces = self._pieces[:]
        pieces[1::2] = numbers
        packed: bytes = self._pack(*pieces)
        return packed

    def filled(self, numbers: Sequence[Array]) -> bytes:
        """Encode all rows, concatenated; `numbers` has one array over all rows per number."""
        rows = len(numbers[0])
        block = np.empty((rows, self.size), np.uint8)
        block[:] = self._row
        for place, values in zip(self._places, numbers, strict=True):
            block[:, place : place + 8] = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(rows, 8)
        return block.tobytes()


def _width(values: Array) -> int | None:
    return values.shape[1] if values.ndim == _MATRIX else None


def _columns(values: Array) -> list[Array]:
    return [values] if values.ndim == 1 else list(values.T)


def _writable(values: Array) -> bool:
    """Whether every row is a number, or a vector of at most MOST_NUMBERS numbers, that JSON can represent exactly."""
    if values.ndim not in (1, _MATRIX) or (values.ndim == _MATRIX and not 0 < values.shape[1] <= MOST_NUMBERS):
        return False
    if values.dtype.kind == "f":
        return bool(np.isfinite(values).all())
    return values.dtype.kind in "iu" and bool((values < SAFE_INTEGER_LIMIT).all()) and bool((values > -SAFE_INTEGER_LIMIT).all())
