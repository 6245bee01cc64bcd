"""The commands that read the hashes of many entities at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.plan import CellColumn, JoinKey
from ml_platform_server.backends.feast.redis.layout import ENCODERS, HashQuery
from ml_platform_server.backends.feast.redis.read_rows import names_of

Keys = Mapping[str, Sequence[object]]
_TEXT = ENCODERS[features_pb2.VALUE_TYPE_STRING]
_SHORT = 128
"""Keys of fewer characters have their heads made beforehand."""


class ColumnCommands:
    """The commands of one read for some entities, each hash once.

    Args:
        read: the read.
        join_keys: the plan's.
        keys: the values of each join key, one an entity, no two entities alike.
        count: how many entities there are.

    Attributes:
        read: the read.
        commands: all of them, one behind the other.
        count: how many they are.

    Raises:
        PlatformError: ENTITY_MISMATCH, FEATURE_VALUE_INVALID.
    """

    def __init__(self, read: HashQuery, join_keys: Sequence[JoinKey], keys: Keys, count: int) -> None:
        self.read = read
        self._places: list[int] | None = None
        quick = _texts(read, keys) if len(join_keys) == 1 else None
        if quick is not None:
            self.commands, self.count = quick, count
            return
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*keys.values(), strict=True)] or [{}] * count
        names = names_of(read, join_keys, rows, 0)
        once = {name: at for at, name in enumerate(dict.fromkeys(names))}
        self.commands, self.count = b"".join(map(read.command, once)), len(once)
        if len(once) < len(names):
            self._places = [once[name] for name in names]

    def spread(self, column: CellColumn) -> CellColumn:
        """Each entity's cell, from those of the hashes."""
        places = self._places
        if places is None:
            return column
        values = column.values[places] if isinstance(column.values, np.ndarray) else [column.values[at] for at in places]
        return CellColumn(values, [column.statuses[at] for at in places])


def _texts(read: HashQuery, keys: Keys) -> bytes | None:
    """The commands for one key of plain and short texts; None for any other."""
    template = read.template
    if len(template.keys) != 1 or template.keys[0][1] is not _TEXT:
        return None
    values = keys.get(template.keys[0][0], ())
    if set(map(type, values)) != {str}:
        return None
    texts: Sequence[str] = values  # type: ignore[assignment]  # looked at above
    if not "".join(texts).isascii() or max(map(len, texts)) >= _SHORT:
        return None
    heads, behind = _around(read)
    # One encoding for all of them: in Latin-1 each byte is a character.
    return "".join([heads[len(text)] + text + behind for text in texts]).encode("latin-1")


@lru_cache(64)
def _around(read: HashQuery) -> tuple[list[str], str]:
    """What stands before a key's text in its command, by the text's length, and what stands behind it."""
    head, tail = read.template.head, read.template.keys[0][2]
    empty = head + _TEXT("") + tail
    heads = [read.around(len(empty) + size)[0] + head + _TEXT("k" * size)[: -size or None] for size in range(_SHORT)]
    return [each.decode("latin-1") for each in heads], (tail + read.around(0)[1]).decode("latin-1")
