"""Which special values a version refuses where a graph would answer: the platform's server refuses them in its place."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as default
from typing import Any

from version_checks.answers import Answer, Ask, Failure, outcomes
from version_checks.fields import Field, Row

PROPERTY = "ml_platform.refused"
"""Where a graph's metadata keep them."""

LARGEST_SINGLE = 3.4028234663852886e38
_NAN, _BEYOND_SINGLE = "nan", 1e39
_ROWS = 8


@dataclass(frozen=True)
class Refused:
    """What is refused in one field: missing values, if `missing` says why, and magnitudes beyond `largest`, if `beyond` does."""

    missing: str = ""
    largest: float = math.inf
    beyond: str = ""


@dataclass
class Special:
    """One special value in one field: rows with it, and what the version answers to them."""

    field: int
    value: float | None
    rows: list[Row]
    expected: list[Answer | Failure] = default(default_factory=list)

    @property
    def missing(self) -> bool:
        """Whether it stands for a missing value, rather than for one that is too large."""
        return self.value is None or math.isnan(self.value)

    @property
    def why(self) -> str:
        """Why the version does not answer; empty if it does."""
        found = next((found.why for found in self.expected if isinstance(found, Failure)), "")
        return found.partition(". ")[0].rstrip(".")


def specials(fields: Sequence[Field], rows: Sequence[Row], sampler: Any, original: Ask) -> list[Special]:  # noqa: ANN401
    """NaN, infinities, and numbers beyond 32 bits in every field with fractions; nulls in every other that is optional."""
    found = []
    for at, each in enumerate(fields):
        values: list[float | None] = []
        if each.fractional:
            values = [math.nan, math.inf, -math.inf]
            values += [_BEYOND_SINGLE, -_BEYOND_SINGLE] if each.kind == "double" else []
        elif each.numeric and not each.required:
            values = [None]
        for value in values:
            made = sampler.with_value(rows[:_ROWS], at, value)
            found.append(Special(at, value, made, outcomes(original, made)))
    return found


def refused(fields: Sequence[Field], found: Sequence[Special], differ: Mapping[int, str]) -> dict[str, Refused]:
    """What the server is to refuse, by field.

    Args:
        fields: what the version takes.
        found: the special values that were tried.
        differ: for those, by position, where a graph does otherwise than the version, which answers: why they are refused.
    """
    told: dict[str, Refused] = {}
    for at, each in enumerate(fields):
        missing, beyond, largest = "", "", math.inf
        for place, special in enumerate(found):
            why = special.why or differ.get(place, "")
            if special.field != at or not why:
                continue
            if special.missing:
                missing = why
            else:
                beyond = why
                largest = min(largest, LARGEST_SINGLE if math.isfinite(special.value or 0) else 1.7976931348623157e308)
        if missing or beyond:
            told[each.name] = Refused(missing, largest, beyond)
    return told


def as_text(told: Mapping[str, Refused]) -> str:
    """As a graph's metadata keep it."""
    kept = {}
    for name, each in told.items():
        kept[name] = {"missing": each.missing} if each.missing else {}
        if each.beyond:
            kept[name] |= {"largest": each.largest, "beyond": each.beyond}  # type: ignore[dict-item]
    return json.dumps(kept)
