"""Writes to the online store: which rows win, and faults that real stores do not show on demand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from ml_platform_server.backends.feast.writes import conditional, other_stores
from ml_platform_server.backends.feast.writes.rows import FeastRow

NOW = datetime(2024, 5, 1, tzinfo=UTC)
VIEW: Any = SimpleNamespace(name="v", features=[SimpleNamespace(name="y")])


def row(key: int, at: datetime) -> FeastRow:
    return EntityKey(join_keys=["u"], entity_values=[Value(int64_val=key)]), {"y": Value(double_val=1)}, at, None


class Forgetful:
    """A store that takes rows without an error and keeps none until it is asked often enough; then a newer one is there."""

    def __init__(self, *, lost: int) -> None:
        self.lost = lost
        self.times: dict[bytes, datetime] = {}
        self.writes = 0

    def online_write_batch(self, _config: object, _view: object, rows: list[FeastRow], _progress: object) -> None:
        self.writes += 1
        if self.writes > self.lost:
            self.times.update({row[0].SerializeToString(): row[2] for row in rows})

    def online_read(self, _config: object, _view: object, keys: list[EntityKey], _names: list[str]) -> list[object]:
        return [(self.times.get(key.SerializeToString()), {}) for key in keys]


def written(store: Any, *rows: FeastRow) -> list[tuple[int, datetime]]:
    config: Any = None
    return list(other_stores.write(store, config, VIEW, rows))


def test_rows_that_a_store_loses_are_written_again() -> None:
    """The read after the write finds them missing."""
    store = Forgetful(lost=2)
    assert written(store, row(1, NOW), row(2, NOW)) == []
    assert (store.writes, len(store.times)) == (3, 2)


def test_rows_that_a_store_keeps_losing_are_an_error() -> None:
    """They are not counted as written."""
    with pytest.raises(other_stores.LostRowsError, match="2 rows of the feature view 'v'"):
        written(Forgetful(lost=99), row(1, NOW), row(2, NOW))


def test_a_row_that_turns_old_between_two_tries_is_skipped() -> None:
    """Another process wrote a newer one meanwhile."""
    newer = NOW + timedelta(seconds=1)

    class Overtaken(Forgetful):
        def online_write_batch(self, *_: object) -> None:
            self.times[row(1, NOW)[0].SerializeToString()] = newer

    store = Overtaken(lost=0)
    assert written(store, row(1, NOW)) == []
    assert written(store, row(1, NOW)) == [(0, newer)]


def test_a_project_without_an_online_store_is_an_error() -> None:
    """Feast itself would write nothing, without a word."""
    store = SimpleNamespace(provider=SimpleNamespace(online_store=None), config=None)
    with pytest.raises(RuntimeError, match="no online store"):
        conditional.write(store, VIEW, [row(1, NOW)])  # type: ignore[arg-type]
