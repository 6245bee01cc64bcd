"""What a model says of a row, in plain values, whatever executed it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ml_platform_server.struct_values import infinity

# How far the sum of a row of probabilities may be from one.
TOLERANCE = 1e-3
# How far beyond 0 and 1 rounding may bring a probability that is a sum of many numbers of 32 bits.
ROUNDING = 1e-5


class PlainPrediction(NamedTuple):
    """A model's prediction for one row, as plain values.

    `prediction` is the first output; `probability` is that of the positive class if there are two, else of the predicted one.
    What JSON does not have is encoded as null (NaN) or as text (infinity). `encoded` is all of it on the wire, if that is written
    already.
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
    """The one probability that the contract tells, out of a row of them.

    Args:
        label: the predicted class, or all probabilities again, where these are what the model predicts.
        given: a list with one number per class, in the order of `classes`, or a mapping from the classes' names.
        classes: the classes' names, if they are known; without them the predicted class is taken to be the likeliest.

    Returns:
        None if what is given are not probabilities.
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
    """Probabilities, with those that rounding brought beyond 0 or 1 set to it; None if they are no probabilities."""
    lowest, highest = min(given), max(given)
    if lowest >= 0 and highest <= 1:
        return given
    if lowest >= -ROUNDING and highest <= 1 + ROUNDING:
        return [min(1.0, max(0.0, value)) for value in given]
    return None


def finite(thing: object) -> object:
    """The same thing as JSON can say it: None in place of NaN, and text in place of infinity."""
    if isinstance(thing, float):
        return infinity(thing) if math.isinf(thing) else None if math.isnan(thing) else thing
    if isinstance(thing, list):
        return [finite(item) for item in thing]
    if isinstance(thing, dict):
        return {name: finite(item) for name, item in thing.items()}
    return thing
