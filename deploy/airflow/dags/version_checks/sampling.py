"""Makes up rows around a version's own example and around its jumps, to ask the version and its graph the same."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from version_checks.fields import Field, Row
from version_checks.splits import Places

ROWS = 768
EXAMPLE_ROWS = 128
BORDER_ROWS = 3000
INSIDE = 0.6
"""The share of made-up rows that lie within the ranges of all columns."""

SEED = 20240331
UNKNOWN_TEXT = "a text that no training data holds \u2603"
UNKNOWN_NUMBER = -987_653

_LIMITS = {"integer": 2**31 - 1, "long": 2**53, "double": 3e38, "float": 3e38}
_WORDS = ["a", "b"]

Known = Mapping[str, Sequence[Any]]


class Sampler:
    """Rows of one signature.

    Most rows lie within the ranges of the example and of the version's jumps: any value in them, and mixtures of the example's
    rows. The others lie around them, near and far, with zeros and negatives among them. Where an encoder knows its values, only
    those are drawn.

    Args:
        fields: the signature.
        example: the version's own rows.
        known: the values that encoders know, by field.
        jumps: the values beside which the version's answers jump, by column.
    """

    def __init__(self, fields: Sequence[Field], example: Sequence[Row], known: Known, jumps: Places) -> None:
        self._fields = fields
        self._known = known
        self._jumps = jumps
        self.example = [*example][:EXAMPLE_ROWS]
        self._random = np.random.default_rng(SEED)
        columns = [[row[at] for row in example] for at in range(len(fields))]
        if fields[0].width:
            columns = [[row[0][at] for row in example] for at in range(fields[0].width)]
        self._seen = [_finite(values) for values in columns]
        self._ranges = [self._range(at) for at in range(len(self._seen))]

    def made_up(self) -> list[Row]:
        """Rows in and around the ranges."""
        return self._rows(ROWS, INSIDE)

    def borders(self) -> list[Row]:
        """Rows within the ranges, but for one value that lies beside a jump, on each side of it."""
        places = [(at, value) for at, values in sorted(self._jumps.items()) for value in self._typed(at, values)]
        if len(places) > BORDER_ROWS:
            # Neighbours stay together: only both sides of a jump tell whether it is where it should be.
            starts = self._random.choice(len(places) - 3, BORDER_ROWS // 4, replace=False)
            places = [places[start + next_to] for start in np.sort(starts).tolist() for next_to in range(4)]
        rows = self._rows(len(places), 1.0)
        return [self._with(row, at, value) for row, (at, value) in zip(rows, places, strict=True)]

    def within(self, rows: Sequence[Row]) -> int:
        """How many rows lie within the ranges of the example's columns, or of the jumps where there is no example."""
        return sum(all(self._inside(at, value) for at, value in enumerate(self._flat(row))) for row in rows)

    def with_gaps(self, rows: Sequence[Row], fields: Sequence[int]) -> list[Row]:
        """The rows, with values missing here and there in the fields at these places, and at least one in each row."""
        gappy = []
        for row in rows:
            missing = [at for at in fields if self._random.random() < 1 / 3] or [int(self._random.choice(fields))]
            gappy.append([None if at in missing else value for at, value in enumerate(row)])
        return gappy

    def with_value(self, rows: Sequence[Row], field: int, value: float | None) -> list[Row]:
        """The rows with this value in one field; in a field with a width, in one of its numbers."""
        width = self._fields[0].width
        return [self._with(row, at % width if width else field, value) for at, row in enumerate(rows)]

    def unknowns(self, row: Row) -> dict[str, Row]:
        """The row with a value that was never seen in place of each text and of each value that encoders know, by field."""
        found = {}
        for at, field in enumerate(self._fields):
            if field.kind == "string" or (field.name in self._known and field.kind != "boolean"):
                value: Any = (
                    UNKNOWN_TEXT if field.kind == "string" else float(UNKNOWN_NUMBER) if field.fractional else UNKNOWN_NUMBER
                )
                found[field.name] = [value if place == at else given for place, given in enumerate(row)]
        return found

    def _field(self, at: int) -> Field:
        """The field that a column belongs to."""
        return self._fields[0] if self._fields[0].width else self._fields[at]

    def _flat(self, row: Row) -> Row:
        return row[0] if self._fields[0].width else row

    def _with(self, row: Row, at: int, value: float | None) -> Row:
        changed = [value if place == at else old for place, old in enumerate(self._flat(row))]
        return [changed] if self._fields[0].width else changed

    def _range(self, at: int) -> tuple[float, float]:
        """A column's range. Jumps are where data lies, but the outermost may be a library's own."""
        if not self._field(at).numeric:
            return 0.0, 0.0
        jumps = self._jumps.get(at, np.array([]))
        jumps = np.quantile(jumps, [0.02, 0.98]) if len(jumps) else jumps
        seen = [*self._seen[at], *jumps.tolist()] or [0.0, 1.0, 10.0]
        return float(min(seen)), float(max(seen))

    def _inside(self, at: int, value: Any) -> bool:  # noqa: ANN401
        if not self._field(at).numeric or not isinstance(value, int | float):
            return True
        seen = self._seen[at]
        low, high = (min(seen), max(seen)) if seen else self._ranges[at]
        return bool(low <= value <= high)

    def _rows(self, count: int, inside: float) -> list[Row]:
        kept = self._random.random(count) < inside
        columns = [self._column(at, count, kept) for at in range(len(self._seen))]
        rows = [list(row) for row in zip(*columns, strict=True)] if count else []
        return [[row] for row in rows] if self._fields[0].width else rows

    @np.errstate(over="ignore")  # What is too large is cut to the limits.
    def _column(self, at: int, count: int, inside: Any) -> list[Any]:  # noqa: ANN401  # an array
        field, seen = self._field(at), self._seen[at]
        if field.kind == "boolean":
            return [bool(value) for value in self._random.integers(0, 2, count)]
        known = self._known.get(field.name)
        if known or field.kind == "string":
            drawn = [*dict.fromkeys([*(known or ()), *seen])] or _WORDS
            return [drawn[place] for place in self._random.integers(0, len(drawn), count)]
        low, high = self._ranges[at]
        span = max(high - low, 1e-3 * max(abs(low), abs(high)), 1e-6)
        base = self._random.choice(np.array(seen or [low, high], float), count)
        near = np.clip(base + self._random.normal(size=count) * span / 50, low, high)
        way = self._random.choice(3, count, p=[0.5, 0.25, 0.25])
        values = np.choose(way, [self._random.uniform(low, high, count), base, near])
        noise = self._random.normal(size=count) * span
        far = np.choose(self._random.choice(5, count), [base + noise, np.zeros(count), -base, base + noise * 10, values])
        values = np.where(inside, values, far)
        return self._as_kind(field, np.clip(values, -_LIMITS[field.kind], _LIMITS[field.kind]))

    def _typed(self, at: int, values: Any) -> list[Any]:  # noqa: ANN401  # an array
        """The numbers of the column's own type beside these."""
        field = self._field(at)
        if field.kind in ("boolean", "string") or field.name in self._known:
            return []
        limit = _LIMITS[field.kind]
        values = values[(values > -limit) & (values < limit)]
        if not field.fractional:
            whole = np.unique(np.concatenate([np.floor(values), np.ceil(values)]))
            return [int(value) for value in whole]
        if field.kind == "float":
            single = values.astype(np.float32)
            sides = [np.nextafter(single, np.float32(-np.inf)), single, np.nextafter(single, np.float32(np.inf))]
            values = np.unique(np.concatenate(sides))
        return np.unique(values).astype(float).tolist()  # type: ignore[no-any-return]

    def _as_kind(self, field: Field, values: Any) -> list[Any]:  # noqa: ANN401  # an array
        if not field.fractional:
            return [int(value) for value in np.rint(values)]
        return (values.astype(np.float32).astype(float) if field.kind == "float" else values).tolist()  # type: ignore[no-any-return]


def _finite(values: Sequence[Any]) -> list[Any]:
    """The values that are there."""
    return [value for value in values if value is not None and not (isinstance(value, float) and not math.isfinite(value))]
