"""Holds the answers of a graph against those of the version that it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from version_checks.answers import Answer, Ask, Failure, nothing, outcomes
from version_checks.converters import PROBABILITY
from version_checks.estimators import Estimator
from version_checks.fields import Field, NotConvertible, Row
from version_checks.sampling import Known, Sampler, narrowed

TOLERANCE = 1e-4
"""How far numbers may be apart, relative where they are larger than one."""

INFINITE = math.inf


@dataclass(frozen=True)
class Comparison:
    """What came of it: how many rows were compared, the largest difference found, and what differs, if anything does."""

    rows: int
    largest: float
    fault: str = ""


class Comparer:
    """Asks the version, once, and any number of graphs.

    Args:
        original: the version.
        estimator: what is in it.
        fields: what it takes.
        example: its own rows.
        known: the values that its encoders know, by field.

    Raises:
        NotConvertible: it answers none of the rows, so there is nothing to compare with.
    """

    def __init__(
        self, original: Ask, estimator: Estimator, fields: Sequence[Field], example: Sequence[Row], known: Known
    ) -> None:
        self._fields = fields
        self._original = original
        self._labels = estimator.classes is not None and estimator.function == "predict"
        sampler = Sampler(fields, example, known)
        own, made_up = sampler.rows()
        self._own = len(own)
        self._rows = [*own, *made_up]
        self._expected = outcomes(original, self._rows)
        self.base = next((at for at, found in enumerate(self._expected) if isinstance(found, dict)), -1)
        if self.base < 0:
            raise NotConvertible(f"It answers no row that could be made up ({self._why()}): log it with input_example=.")
        self._add_gaps(sampler)
        self._probes = sampler.unknowns(self._rows[self.base])
        self._probed = {name: outcomes(original, [row])[0] for name, row in self._probes.items()}

    def first(self) -> Answer:
        """An answer of the version."""
        found = self._expected[self.base]
        return found if isinstance(found, dict) else {}

    def compare(self, graph: Ask) -> Comparison:
        """Ask a graph the same."""
        given = outcomes(graph, self._rows)
        distances = [self._distance(*pair) for pair in zip(self._expected, given, strict=True)]
        largest = max((distance for distance in distances if math.isfinite(distance)), default=0.0)
        wrong = [at for at, distance in enumerate(distances) if not distance <= TOLERANCE]
        rows = len(distances) + len(self._probes)
        fault = self._told(wrong, given, graph) if wrong else self._missing(graph) or self._unknown(graph)
        return Comparison(rows, largest, fault)

    def _add_gaps(self, sampler: Sampler) -> None:
        """Rows with values missing where the signature allows it and the version copes with it."""
        answered = [at for at, found in enumerate(self._expected) if isinstance(found, dict)]
        row = self._rows[self.base]
        self._gaps: dict[str, tuple[Row, Answer | Failure]] = {}
        coping = []
        for at, field in enumerate(self._fields):
            if not field.required and not field.width:
                gap = [None if place == at else value for place, value in enumerate(row)]
                (found,) = outcomes(self._original, [gap])
                self._gaps[field.name] = gap, found
                if isinstance(found, dict) and field.numeric:
                    coping.append(at)
        if coping:
            gappy = sampler.with_gaps([self._rows[at] for at in answered[: len(self._rows) // 8]], coping)
            self._rows += gappy
            self._expected += outcomes(self._original, gappy)

    def _missing(self, graph: Ask) -> str:
        for name, (row, expected) in self._gaps.items():
            if not self._distance(expected, outcomes(graph, [row])[0]) <= TOLERANCE:
                does = "fails" if isinstance(expected, Failure) else "answers"
                return f"where {name} is missing, the model {does} and the graph does otherwise"
        return ""

    def _unknown(self, graph: Ask) -> str:
        for name, expected in self._probed.items():
            if not self._distance(expected, outcomes(graph, [self._probes[name]])[0]) <= TOLERANCE:
                does = "fails" if isinstance(expected, Failure) else "answers"
                return f"for a value of {name} that it never saw, the model {does} and the graph does otherwise"
        return ""

    def _distance(self, one: Answer | Failure, other: Answer | Failure) -> float:
        """How far two outcomes are apart; failing alike is no distance."""
        if isinstance(one, Failure) or isinstance(other, Failure):
            return 0.0 if isinstance(one, Failure) and isinstance(other, Failure) else INFINITE
        if one.keys() != other.keys():
            return INFINITE
        prediction, *others = one
        if self._labels:
            same = _plain_equal(one[prediction], other[prediction]) or _near_tie(one.get(PROBABILITY))
            first = 0.0 if same else INFINITE
        else:
            first = distance(one[prediction], other[prediction])
        return max([first, *(distance(one[name], other[name]) for name in others)])

    def _told(self, wrong: Sequence[int], given: Sequence[Answer | Failure], graph: Ask) -> str:
        told = f"{len(wrong)} of {len(self._rows)} rows differ"
        failing = [at for at in wrong if isinstance(self._expected[at], Failure) or isinstance(given[at], Failure)]
        if failing:
            expected, found = self._expected[failing[0]], given[failing[0]]
            who, failure = ("the model", expected) if isinstance(expected, Failure) else ("the graph", found)
            return f"{told}: on {len(failing)} {who} alone fails ({getattr(failure, 'why', '')})"
        if all(at < self._own for at in wrong) and self._agree_when_narrowed(wrong, graph):
            return f"{told}, all in its own example, and only because the graph compares numbers of 32 bits and theirs need more"
        return told

    def _agree_when_narrowed(self, wrong: Sequence[int], graph: Ask) -> bool:
        rows = [narrowed(self._fields, self._rows[at]) for at in wrong]
        pairs = zip(outcomes(self._original, rows), outcomes(graph, rows), strict=True)
        return all(self._distance(*pair) <= TOLERANCE for pair in pairs)

    def _why(self) -> str:
        return next((found.why for found in self._expected if isinstance(found, Failure)), "there is none")


def distance(one: Any, other: Any) -> float:  # noqa: ANN401  # plain values
    """How far two plain values are apart: relative for numbers larger than one, infinitely for what are no numbers."""
    if isinstance(one, list) and isinstance(other, list):
        return (
            max((distance(*pair) for pair in zip(one, other, strict=True)), default=0.0) if len(one) == len(other) else INFINITE
        )
    if nothing(one) or nothing(other):
        return 0.0 if nothing(one) and nothing(other) else INFINITE
    if any(isinstance(value, bool | str | list) for value in (one, other)):
        return 0.0 if _plain_equal(one, other) else INFINITE
    return abs(float(one) - float(other)) / max(1.0, abs(float(one)))


def _plain_equal(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Whether two values are the same in JSON, where true is not 1."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_plain_equal(*pair) for pair in zip(one, other, strict=True))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _near_tie(probabilities: Any) -> bool:  # noqa: ANN401
    """Whether the two likeliest classes are so close that rounding decides between them."""
    if not isinstance(probabilities, list) or not all(isinstance(each, float) for each in probabilities):
        return False
    first, second, *_ = sorted([*probabilities, -1.0, -1.0], reverse=True)
    return bool(first - second < TOLERANCE)
