"""Holds the answers of a graph against those of the version that it was made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from version_checks.answers import Answer, Ask, Failure, outcomes
from version_checks.distances import INFINITE, TOLERANCE, Scales
from version_checks.estimators import Estimator
from version_checks.fields import Field, NotConvertible, Row
from version_checks.refusals import Refused, refused, specials
from version_checks.sampling import Known, Sampler
from version_checks.splits import Places

FLIPPED = 0.002
"""The share of rows whose class may be another one because rounding decides between two that are equally likely."""


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    `rows` were compared, of which `inside` lie within the ranges of the example. `fault` is what differs, if anything does, and
    `refused` what the server has to refuse by field because the version does.
    """

    rows: int
    inside: int
    largest: float
    fault: str = ""
    refused: Mapping[str, Refused] = field(default_factory=dict)


class Comparer:
    """Asks the version, once, and any number of graphs.

    Args:
        original: the version.
        estimator: what is in it.
        fields: what it takes.
        example: its own rows.
        known: the values that its encoders know, by field.
        jumps: the values beside which its answers jump, by column.

    Raises:
        NotConvertible: it answers none of the rows, so there is nothing to compare with.
    """

    def __init__(
        self,
        original: Ask,
        estimator: Estimator,
        fields: Sequence[Field],
        example: Sequence[Row],
        *,
        known: Known,
        jumps: Places,
    ) -> None:
        self._fields = fields
        self._original = original
        sampler = Sampler(fields, example, known, jumps)
        self._rows = [*sampler.example, *sampler.made_up()]
        self._expected = outcomes(original, self._rows)
        self.base = next((at for at, found in enumerate(self._expected) if isinstance(found, dict)), -1)
        if self.base < 0:
            raise NotConvertible(f"It answers no row that could be made up ({self._why()}): log it with input_example=.")
        borders = sampler.borders()
        self._rows += borders
        self._expected += outcomes(original, borders)
        self._inside = sampler.within(self._rows)
        answered = [row for row, found in zip(self._rows, self._expected, strict=True) if isinstance(found, dict)]
        self._specials = specials(fields, answered, sampler, original)
        self._add_gaps(sampler, answered)
        self._probes = sampler.unknowns(self._rows[self.base])
        self._probed = {name: outcomes(original, [row])[0] for name, row in self._probes.items()}
        self._scales = Scales(estimator, [found for found in self._expected if isinstance(found, dict)])

    def first(self) -> Answer:
        """An answer of the version."""
        found = self._expected[self.base]
        return found if isinstance(found, dict) else {}

    def usual(self) -> float:
        """What is usual for the version's numbers: one for labels and probabilities."""
        return self._scales.usual()

    def compare(self, graph: Ask) -> Comparison:
        """Ask a graph the same."""
        given = outcomes(graph, self._rows)
        distances = [self._distance(*pair) for pair in zip(self._expected, given, strict=True)]
        largest = max((distance for distance in distances if math.isfinite(distance)), default=0.0)
        wrong = [at for at, distance in enumerate(distances) if not distance <= TOLERANCE]
        fault = self._told(wrong, given) if wrong else self._flips(given) or self._unknown(graph)
        differ = {} if fault else self._special(graph)
        if not fault:
            # An answer to a missing value is an answer like any other; numbers that are too large may be refused.
            fault = next((why for at, why in differ.items() if self._specials[at].missing), "")
        rows = len(distances) + len(self._probes) + sum(len(special.rows) for special in self._specials)
        return Comparison(rows, self._inside, largest, fault, refused(self._fields, self._specials, differ))

    def _add_gaps(self, sampler: Sampler, answered: Sequence[Row]) -> None:
        """Rows with several values missing, where the version copes with each missing alone."""
        coping = [special.field for special in self._specials if special.missing and not special.why]
        if coping and not self._fields[0].width:
            gappy = sampler.with_gaps(answered[: len(answered) // 8], coping)
            self._rows += gappy
            self._expected += outcomes(self._original, gappy)

    def _special(self, graph: Ask) -> dict[int, str]:
        """Where the version answers to a special value and the graph does otherwise."""
        differ = {}
        for at, special in enumerate(self._specials):
            if special.why:
                continue
            given = outcomes(graph, special.rows)
            if not all(self._distance(*pair) <= TOLERANCE for pair in zip(special.expected, given, strict=True)):
                name = self._fields[special.field].name
                differ[at] = (
                    f"where {name} is missing, the model answers and the graph does otherwise"
                    if special.missing
                    else "the model's ONNX graph does not compute with it as the model does"
                )
        return differ

    def _flips(self, given: Sequence[Answer | Failure]) -> str:
        """Rows of two equally likely classes of which the graph takes the other."""
        flips = sum(self._scales.flipped(one, other) for one, other in zip(self._expected, given, strict=True))
        if flips <= FLIPPED * len(given):
            return ""
        return f"for {flips} of {len(given)} rows two classes are equally likely, and the graph takes the other one"

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
        return self._scales.distance(one, other)

    def _told(self, wrong: Sequence[int], given: Sequence[Answer | Failure]) -> str:
        told = f"{len(wrong)} of {len(self._rows)} rows differ"
        failing = [at for at in wrong if isinstance(self._expected[at], Failure) or isinstance(given[at], Failure)]
        if failing:
            expected, found = self._expected[failing[0]], given[failing[0]]
            who, failure = ("the model", expected) if isinstance(expected, Failure) else ("the graph", found)
            return f"{told}: on {len(failing)} {who} alone fails ({getattr(failure, 'why', '')})"
        return told

    def _why(self) -> str:
        return next((found.why for found in self._expected if isinstance(found, Failure)), "there is none")
