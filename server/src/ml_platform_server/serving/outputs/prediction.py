"""The prediction for one row as plain values, independent of the runtime."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ml_platform_server.struct_values import infinity

# Maximum distance of the sum of a row of probabilities from 1.
TOLERANCE = 1e-3
# How far outside [0, 1] a probability may be because of rounding: it may be a sum of many 32-bit floats.
ROUNDING = 1e-5


class PlainPrediction(NamedTuple):
    """A model's prediction for one row, as plain values.

    Attributes:
        prediction: the first output.
        probability: of the positive class if there are two classes, else of the predicted class; None if the model has none.
        outputs: all outputs by name. NaN is encoded as null and infinity as a string, because JSON has neither.
        encoded: the encoded fields of a PredictResponse, b"" if they are not encoded yet.
    """

    prediction: object
    probability: float | None
    outputs: Mapping[str, object]
    encoded: bytes = b""


class Prediction(Protocol):
    """A prediction for one row, which may be decoded on first access. See PlainPrediction."""

    @property
    def prediction(self) -> object:
        """See PlainPrediction."""

    @property
    def probability(self) -> float | None:
        """See PlainPrediction."""

    @property
    def outputs(self) -> Mapping[str, object]:
        """See PlainPrediction."""

    @property
    def encoded(self) -> bytes:
        """See PlainPrediction."""


def to_predictions(
    outputs: Mapping[str, Sequence[object]], probabilities: Sequence[float | None] | None = None
) -> list[PlainPrediction]:
    """Turn outputs by name, N values each, into N predictions. The first output is the prediction."""
    names = list(outputs)
    rows = zip(*outputs.values(), strict=True)
    if probabilities is None:
        return [PlainPrediction(row[0], None, dict(zip(names, row, strict=True))) for row in rows]
    return [
        PlainPrediction(row[0], probability, dict(zip(names, row, strict=True)))
        for row, probability in zip(rows, probabilities, strict=True)
    ]


def probability(label: object, given: object, classes: Sequence[object] | None = None) -> float | None:
    """Select the probability that the contract defines from one row of probabilities.

    Args:
        label: the predicted class, or all probabilities again, if these are what the model predicts.
        given: a list with one number per class, in the order of `classes`, or a mapping from the classes' names.
        classes: the classes' names, if known; without them the class with the largest probability counts as predicted.

    Returns:
        The probability of the second class if there are two, else of the predicted class; None if `given` are no probabilities.
    """
    if isinstance(label, list) and label != given:
        return None
    if isinstance(given, Mapping):
        classes, given = list(given), list(given.values())
    if not isinstance(given, list) or not given or not all(isinstance(p, float) for p in given):
        return None
    if (given := clipped(given)) is None:
        return None
    if not math.isclose(sum(given), 1, abs_tol=TOLERANCE):
        return None
    if len(given) == 2:  # noqa: PLR2004  # two classes: the second is the positive one
        return float(given[1])
    names = [str(name) for name in classes] if classes is not None else []
    return float(given[names.index(str(label))] if str(label) in names else max(given))


def clipped(given: Sequence[float]) -> Sequence[float] | None:
    """Clip probabilities that are outside [0, 1] by at most ROUNDING; None if one is further outside."""
    lowest, highest = min(given), max(given)
    if lowest >= 0 and highest <= 1:
        return given
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return [min(1.0, max(0.0, value)) for value in given]
    return None


def finite(thing: object) -> object:
    """Replace NaN by None and infinity by a string, at any depth, so that JSON can encode the value."""
    if isinstance(thing, float):
        return infinity(thing) if math.isinf(thing) else None if math.isnan(thing) else thing
    if isinstance(thing, list):
        return [finite(item) for item in thing]
    if isinstance(thing, dict):
        return {name: finite(item) for name, item in thing.items()}
    return thing
