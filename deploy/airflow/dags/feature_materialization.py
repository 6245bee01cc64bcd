"""Loads features from their history into the online store. The platform's server starts it.

Configuration: `feature_views` (names), `start_time` and `end_time` (ISO 8601). Its task finds the feature store by
FEAST_FS_YAML_FILE_PATH in the environment.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow.sdk import dag, get_current_context, task

if TYPE_CHECKING:
    from feast import FeatureStore


@dag(
    dag_id="feature_materialization",
    schedule=None,
    catchup=False,
    max_active_runs=16,
    dagrun_timeout=timedelta(hours=6),
    default_args={"retries": 0},
    tags=["ml-platform"],
)
def feature_materialization() -> None:
    """Load the newest value per entity within the window, for each view."""

    @task
    def materialize() -> None:
        """See that every view has data in the window, then load them all. One process, because loading Feast takes seconds."""
        from feast import FeatureStore

        conf = get_current_context()["dag_run"].conf or {}
        start, end = moment(conf["start_time"]), moment(conf["end_time"])
        store = FeatureStore()
        for name in conf["feature_views"]:
            rows = rows_in_window(store, name, start, end)
            if rows == 0:
                raise ValueError(
                    f"The feature view '{name}' has no data between {start.isoformat()} and {end.isoformat()}: "
                    "its source has no rows in that window."
                )
            print(f"The source of '{name}' has {rows} rows in the window.")
        store.materialize(start, end, feature_views=list(conf["feature_views"]))

    materialize()


def moment(text: str) -> datetime:
    """A point in time; one without a zone is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def rows_in_window(store: FeatureStore, name: str, start: datetime, end: datetime) -> int:
    """How many rows the source of a view has in a window. Feast itself loads nothing without a word."""
    from feast.infra.offline_stores.offline_utils import get_offline_store_from_config

    view = store.get_feature_view(name)
    source = view.batch_source
    if source is None:
        raise ValueError(f"The feature view '{name}' has no source to load from; push its values instead.")
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
        return int(job.to_arrow().num_rows)
    except Exception as error:
        raise RuntimeError(f"The source of the feature view '{name}' cannot be read: {error}") from error


feature_materialization()
