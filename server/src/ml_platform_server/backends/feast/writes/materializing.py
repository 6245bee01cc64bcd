"""Loads a window of history into the online store: what the materialization pipeline's task does. Imports Feast."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.infra.compute_engines.local.compute import LocalComputeEngine
from feast.infra.offline_stores.offline_utils import get_offline_store_from_config

from ml_platform_server.backends.feast.writes import conditional
from ml_platform_server.backends.feast.writes.history import History, HistoryError

TICK = timedelta(microseconds=1)
"""Feast's windows include their end; its times have microseconds."""


def materialize(store: FeatureStore, names: Sequence[str], start: datetime, end: datetime) -> None:
    """Load each view's newest row per entity with an event time from `start` to before `end`, and none that lies ahead.

    Every source is checked before anything is written. Feast keeps the records of what was materialized.

    Raises:
        HistoryError: a view has no data in the window, or some that cannot be loaded.
    """
    end = min(end, datetime.now(UTC))
    if start >= end:
        raise HistoryError(f"The window from {start.isoformat()} to {end.isoformat()} is empty: its end is at most now.")
    provider: Any = store.provider
    local = isinstance(getattr(provider, "batch_engine", None), LocalComputeEngine)
    tables: dict[str, pa.Table] = {}
    for name in names:
        view = store.get_feature_view(name)
        if local and History.can_read(view):
            tables[name] = History(view, str(store.repo_path)).newest(start, end)
        else:
            _check_window(store, view, start, end - TICK)
    if not local:  # It runs elsewhere, and writes by itself.
        store.materialize(start, end - TICK, feature_views=list(names))
        return
    by_feast = provider.materialize_single_feature_view

    def load(*, feature_view: FeatureView, end_date: datetime, **rest: Any) -> None:  # noqa: ANN401  # Feast's own arguments
        if feature_view.name in tables:
            _write(store, feature_view, tables.pop(feature_view.name))
        else:
            by_feast(feature_view=feature_view, end_date=end_date - TICK, **rest)

    def write(config: object, table: FeatureView, data: Any, progress: Callable[[int], object] | None) -> None:  # noqa: ANN401, ARG001  # Feast's own arguments
        conditional.write(store, table, data)
        if progress is not None:
            progress(len(data))

    with (
        _replaced(provider, "materialize_single_feature_view", load),
        _replaced(provider.online_store, "online_write_batch", write),
    ):
        store.materialize(start, end, feature_views=list(names))


def _write(store: FeatureStore, view: FeatureView, table: pa.Table) -> None:
    count = skipped = 0
    for rows in History(view, str(store.repo_path)).rows(table):
        written = conditional.write(store, view, rows)
        count, skipped = count + written.count, skipped + len(written.skipped)
    print(f"{view.name}: {count} rows written, {skipped} skipped because the online store has newer ones.")


def _check_window(store: FeatureStore, view: FeatureView, start: datetime, end: datetime) -> None:
    """Refuse a view without data in a window: Feast itself would load nothing, without a word."""
    source = view.batch_source
    if source is None:
        raise HistoryError(f"The feature view '{view.name}' has no source to load from; push its values instead.")
    columns = {feature: column for column, feature in source.field_mapping.items()}
    try:
        job = get_offline_store_from_config(store.config.offline_store).pull_all_from_table_or_query(
            config=store.config,
            data_source=source,
            join_key_columns=[columns.get(key, key) for key in view.join_keys],
            feature_name_columns=[],
            timestamp_field=source.timestamp_field,
            start_date=start,
            end_date=end,
        )
        rows = job.to_arrow().num_rows
    except Exception as error:
        raise HistoryError(f"The source of the feature view '{view.name}' cannot be read: {error}") from error
    if not rows:
        raise HistoryError(
            f"The feature view '{view.name}' has no data between {start.isoformat()} and {end.isoformat()}: "
            "its source has no rows in that window."
        )


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Let an object have another method of its own for a while."""
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)
