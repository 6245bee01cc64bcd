"""Reads Redis by columns: each entity's hash is read once, and whole columns of its features are decoded at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from ml_platform.v1.features_pb2 import FeatureStatus
from ml_platform_server.backends.feast.plan import OTHER_TYPE, Cell, CellColumn, JoinKey, by_column, joined, listed
from ml_platform_server.backends.feast.redis.column_commands import ColumnCommands
from ml_platform_server.backends.feast.redis.decode import Read, moment
from ml_platform_server.backends.feast.redis.decode_columns import decoded
from ml_platform_server.backends.feast.redis.layout import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT, HashQuery, Layout
from ml_platform_server.backends.feast.redis.read_rows import Ask

if TYPE_CHECKING:
    from ml_platform_server.backends.feast.redis.layout import Answer

Keys = Mapping[str, Sequence[object]]
"""The values of each join key, one an entity."""

CHUNK_ENTITIES = 512
"""Entities that are read together: half a millisecond of work, before the other calls of this process have their turns."""
SINGLE_CHUNK = 128
"""Entities whose values are read one by one in one go, where something of theirs is missing."""


async def read(layout: Layout, join_keys: Sequence[JoinKey], keys: Keys, count: int, ask: Ask) -> list[CellColumn]:
    """One column a feature, aligned with the plan's features, one value an entity; what `direct.read` gives, by columns.

    Raises:
        PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID; and whatever `ask` raises.
    """
    parts = []
    for begin in range(0, count, CHUNK_ENTITIES):
        end = min(begin + CHUNK_ENTITIES, count)
        some = {name: values[begin:end] for name, values in keys.items()}
        parts.append(await _read(layout, join_keys, some, end - begin, ask))
    return [joined(column) for column in zip(*parts, strict=True)]


async def _read(layout: Layout, join_keys: Sequence[JoinKey], keys: Keys, count: int, ask: Ask) -> list[CellColumn]:
    asked = [ColumnCommands(each, join_keys, keys, count) for each in layout.reads]
    answers = cast("list[Answer]", await ask(b"".join([each.commands for each in asked]), sum(each.count for each in asked)))
    now = time.time()
    found: list[CellColumn] = []
    for commands in asked:
        own, answers = answers[: commands.count], answers[commands.count :]
        found += [commands.spread(column) for column in await _columns(commands.read, own, now)]
    return [found[place] for place in layout.order]


async def _columns(read: HashQuery, answers: Sequence[Answer], now: float) -> list[CellColumn]:
    """The columns of all the features of a read, from the answers for some entities."""
    gaps = [at for at, answer in enumerate(answers) if not all(answer)]
    if not gaps:
        return _whole(read, answers, now)
    cells: list[list[Cell]] = []
    for at in range(0, len(gaps), SINGLE_CHUNK):
        cells += [read.cells(answers[gap], now) for gap in gaps[at : at + SINGLE_CHUNK]]
        await asyncio.sleep(0)
    single = by_column(cells, len(cells[0]))
    if len(gaps) == len(answers):
        return single
    missing = set(gaps)
    rest = _whole(read, [answer for at, answer in enumerate(answers) if at not in missing], now)
    return [_woven(gaps, one, other) for one, other in zip(single, rest, strict=True)]


def _woven(places: Sequence[int], some: CellColumn, others: CellColumn) -> CellColumn:
    """Some cells at their places among the others."""
    values, statuses = listed(others.values), list(others.statuses)
    for at, value, status in zip(places, some.values, some.statuses, strict=True):
        values.insert(at, value)
        statuses.insert(at, status)
    return CellColumn(values, statuses)


def _whole(read: HashQuery, answers: Sequence[Answer], now: float) -> list[CellColumn]:
    """The columns, from answers that lack nothing."""
    fields = cast("list[tuple[bytes, ...]]", list(zip(*answers, strict=True)))
    columns: list[CellColumn] = []
    features = [fields[at] for view in read.views for at in range(view.start, view.end)]
    tags = [reader.tag for view in read.views for reader in view.readers]
    values = iter(zip(features, decoded(tags, features), strict=True))
    for view in read.views:
        present, missing = _statuses(fields[view.end], view.max_age, now)
        for reader in view.readers:
            raws, found = next(values)
            columns.append(CellColumn(found, present) if found is not None else _singly(reader.read, raws, present, missing))
    return columns


def _statuses(
    stamps: Sequence[bytes], max_age: float | None, now: float
) -> tuple[list[FeatureStatus.ValueType], list[FeatureStatus.ValueType]]:
    """How the entities' values are that are there, and how those that are not; both as `HashQuery.cells` has it."""
    times = {stamp: moment(stamp) for stamp in set(stamps)}
    old = {stamp: OUTSIDE_MAX_AGE if max_age and at < now - max_age else PRESENT for stamp, at in times.items()}
    none = {stamp: NULL_VALUE if at else NOT_FOUND for stamp, at in times.items()}
    return [old[stamp] for stamp in stamps], [none[stamp] for stamp in stamps]


def _singly(
    read: Read, raws: Sequence[bytes], present: Sequence[FeatureStatus.ValueType], missing: Sequence[FeatureStatus.ValueType]
) -> CellColumn:
    values = [read(raw) for raw in raws]
    if None not in values and OTHER_TYPE not in values:
        return CellColumn(values, present)
    statuses = [
        NOT_FOUND if value is OTHER_TYPE else one if value is not None else other
        for value, one, other in zip(values, present, missing, strict=True)
    ]
    return CellColumn([None if value is OTHER_TYPE else value for value in values], statuses)
