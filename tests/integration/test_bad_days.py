"""What goes wrong between the pipeline, the registry and the serving side, and how it is told."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

import ml_platform
from ml_platform import MLPlatform
from tests.support.day import Trained
from tests.support.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def careless(platform: MLPlatform) -> dict[str, Any]:
    """The runs of a pipeline that logs one run without a model and one model without a signature, by run name."""
    experiment = platform.create_experiment(name=f"careless-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, pipeline="tests_two_runs")
    job.wait()
    runs = {run.run_name: run for run in platform.get_experiment_runs(experiment.experiment_id)}
    assert {run.job_id for run in runs.values()} == {job.job_id}
    return runs


def test_a_failing_task_ends_the_stream_with_its_name_and_its_reason(platform: MLPlatform) -> None:
    """A watch of a job that fails ends with FAILED, the task at fault, and the sentence that the task raised."""
    experiment = platform.create_experiment(name=f"raising-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, pipeline="tests_raising")
    last = list(job.watch())[-1]
    assert (last.event, last.job.state, last.job.failed_task_id) == ("terminal", "failed", "explode")
    assert "the sky is not blue enough" in last.job.message
    assert {task.task_id: task.state for task in last.job.tasks} == {
        "prepare": "success",
        "explode": "failed",
        "never": "upstream_failed",
    }
    with pytest.raises(ml_platform.JobFailed, match="explode"):
        job.wait()


def test_a_deleted_experiment_is_told_as_deleted_everywhere(platform: MLPlatform, stack: Stack) -> None:
    """Whoever names it, for whatever, reads that it was deleted, not that there never was one."""
    experiment = platform.create_experiment(name=f"deleted-{uuid.uuid4().hex[:8]}", tags={"🚀": "x"})
    assert platform.get_experiment(name=experiment.name).tags == {"🚀": "x"}
    MlflowClient(stack.urls["mlflow"]).delete_experiment(experiment.experiment_id)
    for call in (
        lambda: platform.create_experiment(name=experiment.name),
        lambda: platform.get_experiment(name=experiment.name),
        lambda: platform.get_experiment(experiment.experiment_id),
        lambda: platform.get_experiment_runs(experiment.experiment_id),
        lambda: platform.train_model(experiment_name=experiment.name, pipeline="tests_raising"),
    ):
        with pytest.raises(ml_platform.FailedPrecondition) as caught:
            call()
        assert caught.value.reason == "EXPERIMENT_DELETED"


def test_undeclared_parameters_are_told(platform: MLPlatform) -> None:
    """A pipeline that declares its parameters is given others too, and the job says which."""
    experiment = platform.create_experiment(name=f"undeclared-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, pipeline="tests_mapped", parameters={"count": 1, "notes": "x"})
    assert "does not declare the parameters notes" in job.message


def test_an_empty_date_range_fails_with_a_clear_sentence(platform: MLPlatform) -> None:
    """Training on days without data fails, and the job says which days those were."""
    experiment = platform.create_experiment(name=f"empty-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, data_start_date="1999-01-01", data_end_date="1999-01-31")
    with pytest.raises(ml_platform.JobFailed, match="1999-01-01"):
        job.wait()


def test_a_run_without_a_model_cannot_be_registered(platform: MLPlatform, careless: dict[str, Any]) -> None:
    """Registering a run that logged no model says so, and makes no registered model."""
    name = f"nothing-{uuid.uuid4().hex[:8]}"
    with pytest.raises(ml_platform.FailedPrecondition) as caught:
        platform.register_model(run_id=careless["without-model"].run_id, name=name)
    assert caught.value.reason == "RUN_WITHOUT_MODEL"
    with pytest.raises(ml_platform.NotFound):
        platform.get_model(name)


def test_a_model_without_a_signature_cannot_be_deployed(platform: MLPlatform, careless: dict[str, Any]) -> None:
    """A model that does not say what it takes may be registered, not deployed."""
    model = platform.register_model(run_id=careless["without-signature"].run_id, name=f"bare-{uuid.uuid4().hex[:8]}")
    with pytest.raises(ml_platform.FailedPrecondition) as caught:
        platform.deploy_model(model_name=model.name, version=model.version, environment="staging")
    assert caught.value.reason == "MODEL_WITHOUT_SIGNATURE"


def test_a_model_whose_files_are_gone_cannot_be_deployed(platform: MLPlatform, stack: Stack) -> None:
    """If somebody deleted the artifacts, deploying says so."""
    experiment = platform.create_experiment(name=f"gone-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, pipeline="tests_two_runs")
    job.wait()
    runs = {run.run_name: run for run in platform.get_experiment_runs(experiment.experiment_id)}
    model = platform.register_model(run_id=runs["without-signature"].run_id, name=f"gone-{uuid.uuid4().hex[:8]}")
    folders = [found.parent for found in Path(stack.state).rglob("MLmodel") if f"/{experiment.experiment_id}/" in str(found)]
    assert folders
    for folder in folders:
        shutil.rmtree(folder)
    with pytest.raises(ml_platform.FailedPrecondition) as caught:
        platform.deploy_model(model_name=model.name, version=model.version, environment="staging")
    assert caught.value.reason == "MODEL_ARTIFACT_MISSING"


def test_a_view_with_no_data_materializes_with_a_clear_failure(platform: MLPlatform, trained: Trained, tmp_path: Path) -> None:
    """Materializing a window in which the source has no rows fails and names the view, rather than doing nothing silently."""
    with pytest.raises(ml_platform.JobFailed, match="user_features"):
        platform.materialize_features(feature_view="user_features", start_date="1999-01-01", end_date="1999-01-31")
