"""Deduplicates the entities of a batch given as columns, and maps the rows to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.online import JoinKey
from ml_platform_server.serving.inputs.columns import Array, ColumnData, Values

_T = TypeVar("_T")
# Join key types whose values need no coercion, with the Python type of such a value.
_EXACT: Mapping[int, type] = {features_pb2.VALUE_TYPE_STRING: str, features_pb2.VALUE_TYPE_INT64: int}


class EntityIndex:
    """The distinct entities of a batch.

    Args:
        keys: the join keys. Without any, all rows have the same entity.
        columns: the column of each key.
        rows: number of rows in the batch.

    Attributes:
        count: number of distinct entities.
    """

    def __init__(self, keys: Sequence[JoinKey], columns: Sequence[ColumnData], rows: int) -> None:
        self._keys = keys
        self._values: list[list[Any]] = [[] for _ in keys]
        self.count = 1
        # The position of each row's entity. Unused if `_each`: every row has a different entity, in the order of the rows.
        self._places: Array = np.zeros(rows, np.int64)
        self._each = False
        if keys:
            self._find([column.plain() for column in columns], columns, rows)

    def _find(self, values: list[list[Any]], columns: Sequence[ColumnData], rows: int) -> None:
        hashable = [_hashable(column, each) for column, each in zip(columns, values, strict=True)]
        named: Sequence[object] = hashable[0] if len(hashable) == 1 else list(zip(*hashable, strict=True))
        known = {entity: place for place, entity in enumerate(dict.fromkeys(named))}
        self.count = len(known)
        self._each = self.count == rows
        if not self._each:
            self._places = np.fromiter(map(known.__getitem__, named), np.int64, rows)
        if self._each or (len(hashable) == 1 and hashable[0] is values[0]):
            self._values = values if self._each else [list(known)]
            return
        first = np.empty(self.count, np.int64)
        first[self._places[::-1]] = np.arange(rows - 1, -1, -1)
        self._values = [[each[at] for at in first.tolist()] for each in values]

    def unusual(self) -> set[int]:
        """Positions of the entities with a key that is empty or not of its exact type, and so needs coercion or fails."""
        found: set[int] = set()
        for key, values in zip(self._keys, self._values, strict=True):
            exact = _EXACT.get(key.value_type)
            if set(map(type, values)) != {exact} or "" in values:
                found.update(at for at, value in enumerate(values) if type(value) is not exact or value == "")
        return found

    def named(self, places: Sequence[int]) -> list[dict[str, object]]:
        """The entities at these positions as dictionaries from join key to value."""
        names = [key.name for key in self._keys]
        if len(names) == 1:
            (name,), (values,) = names, self._values
            return [{name: values[at]} for at in places]
        return [{name: values[at] for name, values in zip(names, self._values, strict=True)} for at in places]

    def keyed(self, places: Sequence[int]) -> dict[str, Sequence[object]]:
        """The entities at these positions as columns: per join key, one value per entity."""
        whole = len(places) == self.count
        values = self._values if whole else [[each[at] for at in places] for each in self._values]
        return {key.name: each for key, each in zip(self._keys, values, strict=True)}

    def spread(self, values: Values) -> Values:
        """Broadcast one value per entity to one value per row."""
        if self._each:
            return values
        return values[self._places] if isinstance(values, np.ndarray) else [values[at] for at in self._places.tolist()]

    def spread_some(self, things: Mapping[int, _T]) -> dict[int, _T]:
        """Broadcast a mapping from entity positions to a mapping from row positions."""
        if not things:
            return {}
        if self._each:
            return dict(things)
        return {row: things[at] for row, at in enumerate(self._places.tolist()) if at in things}


def _hashable(sent: ColumnData, values: list[Any]) -> list[Any]:
    """Hashable stand-ins for the values that are equal only for the same key. In Python, 1 == True, so types are included."""
    if isinstance(sent.values, np.ndarray):
        return values if sent.values.ndim == 1 else [repr(value) for value in values]
    if set(map(type, values)) <= {str, type(None)}:
        return values
    return [(type(value), value if type(value) in (str, float, bool) else repr(value)) for value in values]
