"""The one way into the online store: an entity's newest row wins, a row of the same event time replaces the stored one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import Any

from feast import FeatureStore, FeatureView

from ml_platform_server.backends.feast.writes import other_stores
from ml_platform_server.backends.feast.writes.rows import FeastRow, Skipped, Written, newest, superseded


def write(store: FeatureStore, view: FeatureView, rows: Sequence[FeastRow]) -> Written:
    """Write each entity's newest row, unless the store has a newer one.

    Raises:
        LostRowsError: the store did not keep rows.
        Exception: whatever the online store raises.
    """
    rows = [(key, values, time if time.tzinfo else time.replace(tzinfo=UTC), created) for key, values, time, created in rows]
    chosen = newest(rows)
    skipped = list(superseded(rows, chosen))
    indices = sorted(chosen.values())
    one_each = [rows[index] for index in indices]
    if is_atomic(store):
        from ml_platform_server.backends.feast.writes import redis_store  # noqa: PLC0415  # needs Feast's Redis store

        refused = redis_store.write(_online_store(store), store.config, view, one_each)
    else:
        refused = other_stores.write(_online_store(store), store.config, view, one_each)
    skipped += [Skipped(indices[at], time) for at, time in refused]
    return Written(len(rows) - len(skipped), tuple(sorted(skipped, key=lambda one: one.index)))


def is_atomic(store: FeatureStore) -> bool:
    """Whether the online store itself sees to it that no writer overwrites what another has just written."""
    online = getattr(store.provider, "online_store", None)
    return (type(online).__module__, type(online).__name__) == ("feast.infra.online_stores.redis", "RedisOnlineStore")


def _online_store(store: FeatureStore) -> Any:  # noqa: ANN401  # some class of Feast's
    online = getattr(store.provider, "online_store", None)
    if online is None:
        raise RuntimeError("The Feast project has no online store.")
    return online
