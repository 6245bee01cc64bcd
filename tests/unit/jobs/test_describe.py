"""A job's message for a person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import Task
from ml_platform_server.backends.airflow.pipelines import PipelineRun
from ml_platform_server.jobs.describe import describe
from tests.support.jobs import a_run

RUNNING = jobs_pb2.JOB_STATE_RUNNING
FAILED = jobs_pb2.JOB_STATE_FAILED


def task(task_id: str, state: jobs_pb2.TaskState.ValueType, map_index: int = -1) -> Task:
    return Task(task_id=task_id, state=state, map_index=map_index)


TRAIN = task("train", jobs_pb2.TASK_STATE_FAILED)


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (a_run(jobs_pb2.JOB_STATE_QUEUED), "Waits for a place to run."),
        (a_run(RUNNING, task("load", jobs_pb2.TASK_STATE_RUNNING)), "Task 'load' runs."),
        (
            a_run(RUNNING, *(task("fit", jobs_pb2.TASK_STATE_RUNNING, index) for index in range(3))),
            "3 tasks ('fit') run.",
        ),
        (a_run(RUNNING, task("load", jobs_pb2.TASK_STATE_RETRYING)), "Task 'load' failed and will be tried again."),
        (
            a_run(RUNNING, task("load", jobs_pb2.TASK_STATE_SUCCESS), task("fit", jobs_pb2.TASK_STATE_PENDING)),
            "1 of 2 tasks are done.",
        ),
        (a_run(jobs_pb2.JOB_STATE_SUCCESS, task("load", jobs_pb2.TASK_STATE_SUCCESS)), "Every task ended well."),
        (
            a_run(
                jobs_pb2.JOB_STATE_SUCCESS,
                task("load", jobs_pb2.TASK_STATE_SUCCESS),
                task("fit", jobs_pb2.TASK_STATE_SKIPPED),
            ),
            "Every task that ran ended well; task 'fit' was skipped.",
        ),
        (
            a_run(
                jobs_pb2.JOB_STATE_SUCCESS,
                *(task("fit", jobs_pb2.TASK_STATE_SKIPPED, index) for index in range(2)),
            ),
            "Every task that ran ended well; 2 tasks ('fit') were skipped.",
        ),
        (
            a_run(jobs_pb2.JOB_STATE_SUCCESS, TRAIN, task("report", jobs_pb2.TASK_STATE_SUCCESS)),
            "The run ended well, though task 'train' failed.",
        ),
        (a_run(FAILED, TRAIN, failed_task=TRAIN, failure="ValueError: no rows"), "Task 'train' failed: ValueError: no rows."),
        (
            a_run(FAILED, TRAIN, failed_task=TRAIN, failure="OSError: cannot reach s3://key:secret@bucket/path"),
            "Task 'train' failed: OSError: cannot reach s3://…@bucket/path.",
        ),
        (
            a_run(FAILED, failed_task=task("fit", jobs_pb2.TASK_STATE_FAILED, 2), failure="KeyError: 'x'"),
            "Task 'fit' [2] failed: KeyError: 'x'.",
        ),
        (
            a_run(FAILED, TRAIN, failed_task=TRAIN),
            "Task 'train' failed: it left no reason; Airflow's log of the task may tell more.",
        ),
        (
            a_run(FAILED),
            "The run was ended as failed, though none of its tasks failed: by hand, it seems, for it was no time limit.",
        ),
        (
            replace(a_run(FAILED), ended_by="ada did it by hand in Airflow"),
            "The run was ended as failed, though none of its tasks failed: ada did it by hand in Airflow.",
        ),
        (
            replace(a_run(FAILED, TRAIN, failed_task=TRAIN), ended_by="ada did it by hand in Airflow"),
            "Task 'train' failed and left no reason: ada did it by hand in Airflow.",
        ),
        (
            replace(a_run(FAILED, task("load", jobs_pb2.TASK_STATE_RUNNING)), gone="its file was removed"),
            "The job cannot go on, because its pipeline is gone: its file was removed.",
        ),
    ],
)
def test_the_message_says_what_happens_or_what_went_wrong(run: PipelineRun, expected: str) -> None:
    """One sentence for each situation a job can be in."""
    assert describe(run) == expected
