"""How far two answers are apart, as a caller would see it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from version_checks.answers import Answer, Failure, nothing
from version_checks.converters import PROBABILITY
from version_checks.estimators import Estimator

TOLERANCE = 1e-4
"""How far numbers may be apart, relative to what is usual for them or, where they are larger, to themselves."""

TIE = 1e-4
"""How close the two likeliest classes are where rounding decides between them."""

ODDS = 0.1
"""Probabilities may be apart, relative to the smaller of them and of what is left to one, by TOLERANCE / ODDS."""

HALF = 0.5
LEAST = 1e-12
"""Probabilities below are all the same."""

INFINITE = math.inf


class Scales:
    """What is usual for the numbers of a version, and which of them are probabilities.

    Args:
        estimator: what is in the version.
        answers: some of its answers.
    """

    def __init__(self, estimator: Estimator, answers: Sequence[Answer]) -> None:
        self._labels = estimator.classes is not None and estimator.function == "predict"
        # XGBoost rounds its probabilities to 32 bits, so one less a small one is no better than that.
        self._rounding = 2.0**-22 if estimator.library == "xgboost" or "XGB" in estimator.name else 2.0**-50
        self._prediction = next(iter(answers[0]))
        self._usual = {name: _usual([answer[name] for answer in answers]) for name in answers[0]}
        self._probabilities = {name for name in answers[0] if name == PROBABILITY or self._all_within(name, answers)}

    def usual(self) -> float:
        """What is usual for the numbers of the prediction; one for labels."""
        return 1.0 if self._labels else self._usual[self._prediction]

    def distance(self, one: Answer, other: Answer) -> float:
        """How far two answers are apart: relative for numbers, infinitely for what are no numbers."""
        if one.keys() != other.keys():
            return INFINITE
        return max(self._between(name, one[name], other[name], one) for name in one)

    def flipped(self, one: Answer | Failure, other: Answer | Failure) -> bool:
        """Whether two answers have different labels."""
        if not self._labels or isinstance(one, Failure) or isinstance(other, Failure):
            return False
        return not _plain_equal(one[self._prediction], other[self._prediction])

    def _all_within(self, name: str, answers: Sequence[Answer]) -> bool:
        if self._labels and name == self._prediction:
            return False
        return all(_within(answer[name]) for answer in answers)

    def _between(self, name: str, one: Any, other: Any, answer: Answer) -> float:  # noqa: ANN401  # plain values
        if self._labels and name == self._prediction:
            return 0.0 if _plain_equal(one, other) or near_tie(answer.get(PROBABILITY)) else INFINITE
        if name in self._probabilities:
            return _apart(one, other, self._odds)
        usual = self._usual[name]
        return _apart(one, other, lambda a, b: abs(a - b) / max(usual, abs(a)))

    def _odds(self, one: float, other: float) -> float:
        """How far two probabilities are apart: relative to the smaller of what is likely and what is not."""
        # The server tells a probability that rounding has brought over the edge as the edge.
        one, other = (min(1.0, max(0.0, value)) if -TIE < value < 1 + TIE else value for value in (one, other))
        # Of a probability next to one, 32 bits keep no more: what is left to one stands beside it, as that of the other classes.
        rounding = self._rounding if one < HALF else max(self._rounding, 2.0**-23)
        left = max(0.0, abs(one - other) - rounding)
        return max(abs(one - other), ODDS * left / max(LEAST, min(one, 1 - one)))


def near_tie(probabilities: Any) -> bool:  # noqa: ANN401
    """Whether the two likeliest classes are so close that rounding decides between them."""
    if not isinstance(probabilities, list) or not all(isinstance(each, float) for each in probabilities):
        return False
    first, second, *_ = sorted([*probabilities, -1.0, -1.0], reverse=True)
    return bool(first - second < TIE)


def _apart(one: Any, other: Any, measure: Any) -> float:  # noqa: ANN401
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=True) if len(one) == len(other) else None
        return INFINITE if pairs is None else max((_apart(*pair, measure) for pair in pairs), default=0.0)
    if nothing(one) or nothing(other):
        return 0.0 if nothing(one) and nothing(other) else INFINITE
    if any(isinstance(value, bool | str | list) for value in (one, other)):
        return 0.0 if _plain_equal(one, other) else INFINITE
    return float(measure(float(one), float(other)))


def _usual(values: Sequence[Any]) -> float:
    """What is usual for some numbers: their median size, and one for what are no numbers."""
    flat = np.ravel([value for value in values if not isinstance(value, str) and not nothing(value)])
    if not flat.size or flat.dtype.kind not in "fiu":
        return 1.0
    sizes = np.abs(flat[np.isfinite(flat)]) if flat.dtype.kind == "f" else np.abs(flat)
    return float(np.median(sizes) or sizes.max(initial=0.0) or 1.0) if sizes.size else 1.0


def _within(value: Any) -> bool:  # noqa: ANN401
    """Whether a value, or each in a list, is a number from 0 to 1."""
    if isinstance(value, list):
        return bool(value) and all(map(_within, value))
    return isinstance(value, float) and 0 <= value <= 1


def _plain_equal(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether two values are the same in JSON, where true is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_plain_equal(*pair) for pair in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
