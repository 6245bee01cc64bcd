"""Jobs while MLflow hangs or Airflow is away. These tests disturb the stack, and leave it well."""

from __future__ import annotations

import grpc
import pytest

import ml_platform
from ml_platform import MLPlatform
from ml_platform.v1 import jobs_pb2, jobs_pb2_grpc
from tests.support.day import Trained
from tests.support.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PATIENCE = 8.0
"""Seconds, shorter than the server's own patience with one request to MLflow."""


@pytest.fixture
def impatient(stack: Stack, platform: MLPlatform) -> MLPlatform:
    """A client that waits less long than the server would for MLflow, and does not try again."""
    return platform.with_options(retries=0, timeout=PATIENCE)


def test_a_job_is_told_at_once_while_mlflow_hangs(
    impatient: MLPlatform, trained: Trained, channel: grpc.Channel, stack: Stack
) -> None:
    """With the runs that it had at its end; the first message of a watch comes at once too, and the stream ends as ever."""
    metadata = (("authorization", f"Bearer {stack.api_key}"),)
    request = jobs_pb2.WatchJobRequest(job_id=trained.job.job_id)
    stack.pause("mlflow")
    try:
        job = impatient.get_training_job(trained.job.job_id)
        assert (job.state, job.best_run_id, job.run_ids) == ("success", trained.job.best_run_id, trained.job.run_ids)
        watch = jobs_pb2_grpc.JobServiceStub(channel).WatchJob(request, metadata=metadata, timeout=PATIENCE)
        first = next(iter(watch))
        assert (first.event, first.job.state) == (jobs_pb2.WATCH_EVENT_SNAPSHOT, jobs_pb2.JOB_STATE_SUCCESS)
        watch.cancel()
    finally:
        stack.resume("mlflow")


def test_a_job_that_has_ended_is_told_while_airflow_is_away(
    impatient: MLPlatform, platform: MLPlatform, trained: Trained, stack: Stack
) -> None:
    """It comes from the store, tasks and runs included; a start is refused as UNAVAILABLE."""
    assert platform.get_training_job(trained.job.job_id).best_run_id == trained.job.best_run_id
    for away, back in ((stack.pause, stack.resume), (stack.stop, stack.start)):
        away("airflow")
        try:
            assert impatient.get_training_job(trained.job.job_id) == trained.job
            with pytest.raises((ml_platform.Unavailable, ml_platform.DeadlineExceeded)):
                impatient.train_model(experiment_name="Default")
        finally:
            back("airflow")
