"""Rows on their way into the online store, and what became of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
"""Feast's own form: the entity's key, its features, the event time, and when the row was created."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was not written, by its place among the rows given, and the event time of the row that won over it."""

    index: int
    newer_time: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """How many rows are in the store now, and which are not."""

    count: int
    skipped: tuple[Skipped, ...] = ()


def newest(rows: Sequence[FeastRow]) -> dict[bytes, int]:
    """The index of each entity's newest row; of rows with the same event time, the last one."""
    best: dict[bytes, int] = {}
    for index, row in enumerate(rows):
        key = row[0].SerializeToString(deterministic=True)
        if key not in best or row[2] >= rows[best[key]][2]:
            best[key] = index
    return best


def superseded(rows: Sequence[FeastRow], chosen: dict[bytes, int]) -> Iterable[Skipped]:
    """The rows that another row of the same entity wins over, before any of them is written."""
    for index, row in enumerate(rows):
        winner = chosen[row[0].SerializeToString(deterministic=True)]
        if winner != index:
            yield Skipped(index, rows[winner][2])
