"""Makes up rows around a version's own example, to ask the version and its graph the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from version_checks.fields import Field, Row

ROWS = 256
EXAMPLE_ROWS = 128
SEED = 20240331
UNKNOWN_TEXT = "a text that no training data holds \u2603"
UNKNOWN_NUMBER = -987_653

_LIMITS = {"integer": 2**31 - 1, "long": 2**53, "double": 3e38, "float": 3e38}
_WORDS = ["a", "b"]

Known = Mapping[str, Sequence[Any]]


class Sampler:
    """Rows of one signature.

    Numbers lie around those of the example, near and far, with zeros and negatives among them. They fit into 32 bits, because
    converted trees compare no more than that. Where an encoder knows its values, only those are drawn.

    Args:
        fields: the signature.
        example: the version's own rows.
        known: the values that encoders know, by field.
    """

    def __init__(self, fields: Sequence[Field], example: Sequence[Row], known: Known) -> None:
        self._fields = fields
        self._known = known
        self._example = [*example][:EXAMPLE_ROWS]
        self._random = np.random.default_rng(SEED)
        self._seen = [_flat([row[at] for row in example]) for at in range(len(fields))]

    def rows(self) -> tuple[list[Row], list[Row]]:
        """The example's rows, and those made up."""
        count = ROWS - len(self._example)
        columns = [self._column(field, seen, count) for field, seen in zip(self._fields, self._seen, strict=True)]
        return self._example, [list(row) for row in zip(*columns, strict=True)]

    def with_gaps(self, rows: Sequence[Row], fields: Sequence[int]) -> list[Row]:
        """The rows, with values missing here and there in the fields at these places, and at least one in each row."""
        gappy = []
        for row in rows:
            missing = [at for at in fields if self._random.random() < 1 / 3] or [int(self._random.choice(fields))]
            gappy.append([None if at in missing else value for at, value in enumerate(row)])
        return gappy

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

    def _column(self, field: Field, seen: Sequence[Any], count: int) -> list[Any]:
        if field.width:
            numbers = self._values(field, seen, count * field.width)
            return [numbers[at : at + field.width] for at in range(0, len(numbers), field.width)]
        return self._values(field, seen, count)

    def _values(self, field: Field, seen: Sequence[Any], count: int) -> list[Any]:
        if field.kind == "boolean":
            return [bool(value) for value in self._random.integers(0, 2, count)]
        known = self._known.get(field.name)
        if known or field.kind == "string":
            drawn = [*dict.fromkeys([*(known or ()), *seen])] or _WORDS
            return [drawn[at] for at in self._random.integers(0, len(drawn), count)]
        return self._numbers(field, np.array(seen or [0.0, 1.0, 10.0], dtype=float), count)

    def _numbers(self, field: Field, seen: Any, count: int) -> list[Any]:  # noqa: ANN401  # an array
        spread = max(float(np.std(seen)), float(np.abs(seen).max()) / 2, 1e-3)
        base = self._random.choice(seen, count)
        noise = self._random.normal(size=count) * spread
        way = self._random.choice(5, count, p=[0.4, 0.35, 0.1, 0.1, 0.05])
        drawn = np.choose(way, [base + noise / 10, base + noise, np.zeros(count), -base, base + noise * 10])
        limit = _LIMITS[field.kind]
        drawn = np.clip(drawn, -limit, limit)
        return narrow(drawn).tolist() if field.fractional else [int(value) for value in np.rint(drawn)]


def narrow(values: Any) -> Any:  # noqa: ANN401  # an array or a number
    """Numbers as 32 bits hold them."""
    return np.asarray(values, np.float32).astype(float)


def narrowed(fields: Sequence[Field], row: Row) -> Row:
    """A row whose numbers fit into 32 bits."""
    return [
        narrow(value).tolist() if field.fractional and value is not None else value
        for field, value in zip(fields, row, strict=True)
    ]


def _flat(values: Sequence[Any]) -> list[Any]:
    """The values that are there, out of their lists."""
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return [value for value in flat if value is not None and value == value and value not in (float("inf"), -float("inf"))]  # noqa: PLR0124
