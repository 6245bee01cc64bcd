"""Writes to a store without a compare-and-set of ours, by Feast's own reads and writes: read, write what is newer, read back.

Some of these stores overwrite a newer row with an older one, and some keep whole seconds: within those, the last write wins.
One lock serves a whole process; writers in other processes have to be kept out by the caller.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from feast import FeatureView
from feast.infra.online_stores.online_store import OnlineStore
from feast.repo_config import RepoConfig

from ml_platform_server.backends.feast.writes.rows import FeastRow

CHUNK_ROWS = 500
ATTEMPTS = 5
_lock = threading.Lock()


class LostRowsError(Exception):
    """The online store did not keep rows that it took."""


def write(store: OnlineStore, config: RepoConfig, view: FeatureView, rows: Sequence[FeastRow]) -> Iterator[tuple[int, datetime]]:
    """Write rows of different entities. Yields the index of each that is not written, and the newer event time that is stored.

    Raises:
        LostRowsError: rows that were written are not there afterwards.
    """
    numbered = enumerate(rows)
    while part := list(islice(numbered, CHUNK_ROWS)):
        with _lock:
            skipped = _write_part(store, config, view, part)
        yield from skipped


def _write_part(
    store: OnlineStore, config: RepoConfig, view: FeatureView, part: Sequence[tuple[int, FeastRow]]
) -> list[tuple[int, datetime]]:
    skipped: list[tuple[int, datetime]] = []
    pending = list(part)
    for _ in range(ATTEMPTS):
        times = _stored_times(store, config, view, pending)
        older = [time is not None and row[2] < time for (_, row), time in zip(pending, times, strict=True)]
        skipped += [(index, time) for (index, _), time, old in zip(pending, times, older, strict=True) if old and time]
        pending = [one for one, old in zip(pending, older, strict=True) if not old]
        if not pending:
            return skipped
        # By its class: materialization lets the object itself write through here.
        type(store).online_write_batch(store, config, view, [row for _, row in pending], None)
        times = _stored_times(store, config, view, pending)
        # A store may keep whole seconds.
        pending = [
            one for one, time in zip(pending, times, strict=True) if time is None or time < one[1][2].replace(microsecond=0)
        ]
        if not pending:
            return skipped
    raise LostRowsError(
        f"{len(pending)} rows of the feature view {view.name!r} are not in the online store after they were written."
    )


def _stored_times(
    store: OnlineStore, config: RepoConfig, view: FeatureView, part: Sequence[tuple[int, FeastRow]]
) -> list[datetime | None]:
    found = store.online_read(config, view, [row[0] for _, row in part], [view.features[0].name])
    return [_aware(time) if time else None for time, _ in found]


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
