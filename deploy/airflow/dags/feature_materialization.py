"""Loads features from their history into the online store. The platform's server starts it.

Configuration: `feature_views` (names), `start_time` and `end_time` (ISO 8601). Its task finds the feature store by
FEAST_FS_YAML_FILE_PATH in the environment, and writes as the server does: `ml-platform-server` is installed where the task runs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from airflow.sdk import dag, get_current_context, task


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

        from ml_platform_server.backends.feast.writes import materializing

        conf = get_current_context()["dag_run"].conf or {}
        start, end = moment(conf["start_time"]), moment(conf["end_time"])
        materializing.materialize(FeatureStore(), conf["feature_views"], start, end)

    materialize()


def moment(text: str) -> datetime:
    """A point in time; one without a zone is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


feature_materialization()
