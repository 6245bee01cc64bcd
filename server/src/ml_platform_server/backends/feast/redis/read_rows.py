"""Reads a plan's features for single rows straight from Redis, in Feast's layout."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, cast

from ml_platform_server.backends.feast import keys
from ml_platform_server.backends.feast.plan import Cell, JoinKey, Row
from ml_platform_server.backends.feast.redis.layout import HashQuery, Layout, NeedsCoercion

if TYPE_CHECKING:
    from ml_platform_server.backends.feast.redis.layout import Answer

Ask = Callable[[bytes, int], Awaitable[list[object]]]
"""Sends commands, of which there are so many, and waits for the answers."""

CHUNK_ROWS = 128
"""More would keep the event loop from everybody else for over a millisecond."""


def read(layout: Layout, join_keys: Sequence[JoinKey], rows: Sequence[Row], ask: Ask) -> Coroutine[None, None, list[list[Cell]]]:
    """One list of cells a row, aligned with the plan's features.

    Raises:
        PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID; and whatever `ask` raises.
    """
    if 0 < len(rows) <= CHUNK_ROWS:
        return _some(layout, join_keys, rows, 0, ask)
    return _read_many(layout, join_keys, rows, ask)


async def _read_many(layout: Layout, join_keys: Sequence[JoinKey], rows: Sequence[Row], ask: Ask) -> list[list[Cell]]:
    found: list[list[Cell]] = []
    for begin in range(0, len(rows), CHUNK_ROWS):
        found += await _some(layout, join_keys, rows[begin : begin + CHUNK_ROWS], begin, ask)
    return found


def _some(
    layout: Layout, join_keys: Sequence[JoinKey], rows: Sequence[Row], begin: int, ask: Ask
) -> Coroutine[None, None, list[list[Cell]]]:
    if len(layout.reads) == 1 and layout.in_order:
        return _read_hashes(layout.reads[0], join_keys, rows, begin, ask)
    return _read_several(layout, join_keys, rows, begin, ask)


async def _read_hashes(
    read: HashQuery, join_keys: Sequence[JoinKey], rows: Sequence[Row], begin: int, ask: Ask
) -> list[list[Cell]]:
    """Read one hash for each row, which holds just what is wanted: so it is for most models."""
    names = names_of(read, join_keys, rows, begin)
    once = list(dict.fromkeys(names)) if len(names) > 1 else names
    answers = cast("list[Answer]", await ask(b"".join([read.command(name) for name in once]), len(once)))
    now = time.time()
    cells = [read.cells(answer, now) for answer in answers]
    if len(once) == len(names):
        return cells
    of_name = dict(zip(once, cells, strict=True))
    return [[*of_name[name]] for name in names]  # Each row's its own: what is put into one is not the other's.


async def _read_several(
    layout: Layout, join_keys: Sequence[JoinKey], rows: Sequence[Row], begin: int, ask: Ask
) -> list[list[Cell]]:
    named = [names_of(read, join_keys, rows, begin) for read in layout.reads]
    hashes = [dict.fromkeys(names) for names in named]  # Each once, in order.
    commands = [read.command(name) for read, once in zip(layout.reads, hashes, strict=True) for name in once]
    answers = iter(cast("list[Answer]", await ask(b"".join(commands), len(commands))))
    now = time.time()
    # By read and then by hash, as the answers come.
    cells = [{name: read.cells(next(answers), now) for name in once} for read, once in zip(layout.reads, hashes, strict=True)]
    return [
        layout.aligned([cell for of_read, name in zip(cells, names, strict=True) for cell in of_read[name]])
        for names in zip(*named, strict=True)
    ]


def names_of(read: HashQuery, join_keys: Sequence[JoinKey], rows: Sequence[Row], begin: int) -> list[bytes]:
    """The name of each row's hash."""
    names: list[bytes] = []
    for at, row in enumerate(rows, begin):
        try:
            name = read.key(row)
        except (NeedsCoercion, KeyError):  # Not in the key's type, or not there at all.
            name = read.key(keys.key_values(join_keys, row, f"rows[{at}]"))
        names.append(name)
    return names
