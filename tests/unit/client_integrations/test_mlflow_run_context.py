"""The tags that lineage stands on."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from ml_platform.integrations.mlflow_run_context import TAGS, JobRunContext

TASK = {
    "AIRFLOW_CTX_DAG_RUN_ID": "mlp-1",
    "AIRFLOW_CTX_DAG_ID": "churn",
    "AIRFLOW_CTX_TASK_ID": "train",
    "AIRFLOW_CTX_TRY_NUMBER": "2",
}


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin outside any task."""
    for variable in TAGS:
        monkeypatch.delenv(variable, raising=False)


def test_outside_a_task_nothing_is_tagged() -> None:
    """A run on somebody's own machine belongs to no job."""
    assert JobRunContext().in_context() is False


def test_inside_a_task_a_run_knows_its_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Airflow says about the running task becomes tags."""
    for variable, value in TASK.items():
        monkeypatch.setenv(variable, value)
    assert JobRunContext().in_context() is True
    assert JobRunContext().tags() == {
        "ml_platform.job_id": "mlp-1",
        "ml_platform.pipeline": "churn",
        "ml_platform.task_id": "train",
        "ml_platform.try_number": "2",
    }


def test_mlflow_finds_the_provider_by_its_entry_point() -> None:
    """The installed client announces the provider under the group that MLflow reads."""
    (entry,) = entry_points(group="mlflow.run_context_provider", name="ml_platform")
    assert entry.load() is JobRunContext
