"""What Airflow tells, turned into the contract's words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import JobState, Task, TaskState
from ml_platform_server.backends.airflow import tasks
from ml_platform_server.backends.airflow.failures import broken_file, reason_in_log, reason_in_traceback

START = datetime(2026, 1, 1, tzinfo=UTC)
TRACEBACK = 'Traceback (most recent call last):\n  File "/dags/x.py", line 2, in <module>\n    import y\nImportError: no y\n'


def instance(task_id: str, state: str | None, *, start: int | None = None, weight: int = 1, map_index: int = -1) -> Any:
    """A task instance with what Airflow's client tells of one."""
    moment = START + timedelta(seconds=start) if start is not None else None
    return SimpleNamespace(
        task_id=task_id,
        state=SimpleNamespace(value=state) if state else None,
        try_number=0 if start is None else 1,
        map_index=map_index,
        start_date=moment,
        end_date=moment if state in {"success", "failed", "upstream_failed", "skipped"} else None,
        priority_weight=weight,
    )


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (None, "PENDING"),
        ("scheduled", "PENDING"),
        ("queued", "PENDING"),
        ("running", "RUNNING"),
        ("deferred", "RUNNING"),
        ("up_for_reschedule", "RUNNING"),
        ("success", "SUCCESS"),
        ("failed", "FAILED"),
        ("up_for_retry", "RETRYING"),
        ("restarting", "RETRYING"),
        ("skipped", "SKIPPED"),
        ("removed", "SKIPPED"),
        ("upstream_failed", "UPSTREAM_FAILED"),
    ],
)
def test_every_state_of_a_task_has_a_word_in_the_contract(state: str | None, expected: str) -> None:
    """Airflow's states, one by one."""
    message = tasks.task_message(instance("t", state))
    assert TaskState.Name(message.state).removeprefix("TASK_STATE_") == expected


def test_a_task_that_never_ran_has_no_times() -> None:
    """Airflow gives a skipped task a start and an end; in the contract nothing started."""
    messages = [tasks.task_message(instance("t", state, start=1)) for state in ("success", "skipped", "upstream_failed")]
    assert [message.HasField("start_time") for message in messages] == [True, False, False]


def test_tasks_are_told_in_the_order_in_which_they_start() -> None:
    """Those that started come first, by time; the others follow in the order in which they are going to start."""
    told = tasks.in_start_order(
        [
            instance("last", None, weight=1),
            instance("middle", None, weight=2),
            instance("second", "running", start=2),
            instance("first", "success", start=1),
            instance("second", "running", start=2, map_index=0),
        ]
    )
    assert [(task.task_id, task.map_index) for task in told] == [
        ("first", -1),
        ("second", -1),
        ("second", 0),
        ("middle", -1),
        ("last", -1),
    ]


@pytest.mark.parametrize(
    ("run_state", "started", "expected"),
    [
        ("queued", False, jobs_pb2.JOB_STATE_QUEUED),
        ("running", False, jobs_pb2.JOB_STATE_QUEUED),
        ("running", True, jobs_pb2.JOB_STATE_RUNNING),
        ("success", True, jobs_pb2.JOB_STATE_SUCCESS),
        ("failed", False, jobs_pb2.JOB_STATE_FAILED),
    ],
)
def test_a_job_runs_once_a_task_has_started(run_state: str, started: bool, expected: JobState.ValueType) -> None:
    """Airflow calls a run running before any of its tasks is; the contract does not."""
    message = tasks.task_message(instance("t", "running" if started else None, start=1 if started else None))
    assert tasks.job_state(run_state, [message]) == expected


def test_the_task_at_fault_is_the_one_that_failed_first() -> None:
    """Of several failed tasks the earliest end counts, whatever the order they are told in."""
    failed = [tasks.task_message(instance(task_id, "failed", start=start)) for task_id, start in (("late", 5), ("early", 1))]
    found = tasks.first_failed([*failed, Task(task_id="fine", state=jobs_pb2.TASK_STATE_SUCCESS)])
    assert (found.task_id if found else None) == "early"


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], ""),
        (["plain text", {"event": "Task failed"}], ""),
        (
            [{"error_detail": [{"exc_type": "ValueError", "exc_value": "no\n  rows"}, {"exc_type": "KeyError"}]}],
            "ValueError: no rows",
        ),
        ([{"error_detail": [{"exc_type": "KeyboardInterrupt", "exc_value": ""}]}], "KeyboardInterrupt"),
        (
            [{"error_detail": [{"exc_type": "A", "exc_value": "1"}]}, {"error_detail": [{"exc_type": "B", "exc_value": "2"}]}],
            "B: 2",
        ),
        ([{"error_detail": [{"exc_type": "A", "exc_value": "x" * 1000}]}], "A: " + "x" * 496 + "…"),
    ],
)
def test_the_reason_is_the_outermost_exception_in_one_line(entries: list[Any], expected: str) -> None:
    """The last uncaught exception of the log, without its causes, on one line of bearable length."""
    assert reason_in_log(entries) == expected


def test_the_reason_of_an_import_error_is_its_last_line() -> None:
    """The traceback above it is nobody's business."""
    assert (reason_in_traceback(TRACEBACK), reason_in_traceback("")) == ("ImportError: no y", "")


@pytest.mark.parametrize(
    ("pipeline", "filename", "trace", "found"),
    [
        ("sales", "sales.py", "", True),
        ("sales", "team/sales.py", "", True),
        ("sales", "sales/__init__.py", "", True),
        ("sales", "other.py", "KeyError in dag 'sales'", True),
        ("sales", "other.py", "KeyError: sales_daily", False),
        ("sales", "presales.py", "", False),
    ],
)
def test_a_broken_file_is_recognised_by_its_name_or_by_its_error(pipeline: str, filename: str, trace: str, found: bool) -> None:
    """Airflow cannot tell what a file would have held; the name and the error are what there is."""
    error: Any = SimpleNamespace(filename=filename, stack_trace=trace)
    assert (broken_file(pipeline, [error]) is error) == found
