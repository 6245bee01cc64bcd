"""Encodes the predictions for a few rows in plain Python. For a single row, NumPy's overhead would be most of the cost.

The bytes are the same as those of encoded_block.py and encode.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ml_platform_server.serving.outputs.encoded_block import MOST_NUMBERS, Shapes, Template
from ml_platform_server.serving.outputs.prediction import TOLERANCE, PlainPrediction, clipped
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT

Number = int | float
_PAIR = 2
_MATRIX = 2


class SmallBatchEncoder:
    """Encodes the predictions of one graph.

    Args:
        names: the names of its outputs, the prediction first.
        probabilities: the position of the output with class probabilities; None if there is none.
        template: returns the template for a shape.
    """

    def __init__(self, names: Sequence[str], probabilities: int | None, template: Callable[[Shapes], Template]) -> None:
        self._names = tuple(names)
        self._probabilities = probabilities
        self._template = template
        # By the width of each output: the length of a vector, None for a single number.
        self._templates: dict[tuple[int | None, ...], Template] = {}

    def of(self, found: Sequence[object], rows: int) -> list[PlainPrediction] | None:
        """Encode the predictions of N rows; None unless all outputs are finite numbers, at most MOST_NUMBERS per row.

        Args:
            found: the outputs as ONNX Runtime returns them.
            rows: N.
        """
        plain: list[list[list[Number]]] = []
        widths: list[int | None] = []
        for output in found:
            if type(output) is not np.ndarray or output.dtype.kind not in "fiu" or output.ndim not in (1, _MATRIX):
                return None
            size = output.size
            if len(output) != rows or not size:
                return None
            plain.append(output.reshape(rows, size // rows).tolist())
            widths.append(None if size == rows else size // rows)
        at = self._probabilities
        if sum(width or 1 for width in widths) > MOST_NUMBERS or (
            at is not None and (widths[0] is not None or widths[at] is None)
        ):
            return None
        template = self._templates.get(tuple(widths))
        if template is None:
            template = self._made(widths)
        predictions: list[PlainPrediction] = []
        for row in zip(*plain, strict=True):
            answer = self._row(row, widths, template)
            if answer is None:
                return None
            predictions.append(answer)
        return predictions

    def _made(self, widths: Sequence[int | None]) -> Template:
        probability = None if self._probabilities is None else 1
        template = self._template((("", probability), *zip(self._names, widths, strict=True)))
        return self._templates.setdefault(tuple(widths), template)

    def _row(self, outputs: Sequence[list[Number]], widths: Sequence[int | None], template: Template) -> PlainPrediction | None:
        first, numbers, probability = outputs[0], [*outputs[0]], None
        if self._probabilities is not None:
            given = clipped(outputs[self._probabilities])
            probability = None if given is None else likeliest(given)
            if given is None or probability is None:
                return None  # These are no probabilities; the general path handles them.
            if given is not outputs[self._probabilities]:
                outputs = [[*given] if at == self._probabilities else values for at, values in enumerate(outputs)]
            numbers.append(probability)
        for values in outputs:
            numbers += values
        total = sum(numbers)
        # The sum is NaN or infinite if one of the numbers is.
        if total - total != 0 or not _exact(numbers):
            return None
        plain = [values[0] if width is None else values for values, width in zip(outputs, widths, strict=True)]
        prediction = first[0] if widths[0] is None else first
        return PlainPrediction(prediction, probability, dict(zip(self._names, plain, strict=True)), template.row(numbers))


def likeliest(given: Sequence[Number]) -> float | None:
    """Select the probability that the contract defines from a row of numbers in [0, 1]; None if they are no probabilities."""
    if len(given) < _PAIR or abs(sum(given) - 1) > TOLERANCE:
        return None
    return float(given[1] if len(given) == _PAIR else max(given))


def _exact(numbers: Sequence[Number]) -> bool:
    """Whether a JSON number can represent each of them exactly."""
    if -SAFE_INTEGER_LIMIT < min(numbers) and max(numbers) < SAFE_INTEGER_LIMIT:
        return True
    return not any(type(each) is int and abs(each) >= SAFE_INTEGER_LIMIT for each in numbers)
