"""Airflow's runs and task instances, told as the contract's states and Task messages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import JobState, Task, TaskState

if TYPE_CHECKING:
    from airflow_client.client import TaskInstanceResponse

_TASK_STATES: dict[str, TaskState.ValueType] = {
    "scheduled": jobs_pb2.TASK_STATE_PENDING,
    "queued": jobs_pb2.TASK_STATE_PENDING,
    "running": jobs_pb2.TASK_STATE_RUNNING,
    # Work that has begun and waits outside a worker: for a trigger, for its next look at something, or for a person.
    "deferred": jobs_pb2.TASK_STATE_RUNNING,
    "up_for_reschedule": jobs_pb2.TASK_STATE_RUNNING,
    "awaiting_input": jobs_pb2.TASK_STATE_RUNNING,
    "success": jobs_pb2.TASK_STATE_SUCCESS,
    "failed": jobs_pb2.TASK_STATE_FAILED,
    "up_for_retry": jobs_pb2.TASK_STATE_RETRYING,
    "restarting": jobs_pb2.TASK_STATE_RETRYING,
    "skipped": jobs_pb2.TASK_STATE_SKIPPED,
    "removed": jobs_pb2.TASK_STATE_SKIPPED,
    "upstream_failed": jobs_pb2.TASK_STATE_UPSTREAM_FAILED,
}

_NEVER_RAN = frozenset({jobs_pb2.TASK_STATE_PENDING, jobs_pb2.TASK_STATE_SKIPPED, jobs_pb2.TASK_STATE_UPSTREAM_FAILED})


def task_message(instance: TaskInstanceResponse) -> Task:
    """One task instance as the contract's Task."""
    state = _TASK_STATES.get(str(instance.state.value) if instance.state else "", jobs_pb2.TASK_STATE_PENDING)
    task = Task(task_id=instance.task_id, state=state, try_number=instance.try_number, map_index=instance.map_index)
    # Airflow gives tasks that it skips a start and an end of the same moment; nothing started there.
    if state not in _NEVER_RAN:
        _set(task.start_time, instance.start_date)
        _set(task.end_time, instance.end_date)
    return task


def in_start_order(instances: Iterable[TaskInstanceResponse]) -> list[TaskInstanceResponse]:
    """Task instances as they started; those that did not come last, in the order in which they are going to.

    Airflow weighs a task by all that depends on it, so of two tasks in a row the first weighs more.
    """

    def key(instance: TaskInstanceResponse) -> tuple[float, int, str, int]:
        start = instance.start_date.timestamp() if instance.start_date else float("inf")
        return (start, -(instance.priority_weight or 0), instance.task_id, instance.map_index)

    return sorted(instances, key=key)


def job_state(run_state: str, tasks: Iterable[Task]) -> JobState.ValueType:
    """Where the whole stands. Airflow calls a run "running" before any task of it is."""
    if run_state == "success":
        return jobs_pb2.JOB_STATE_SUCCESS
    if run_state == "failed":
        return jobs_pb2.JOB_STATE_FAILED
    started = any(task.HasField("start_time") for task in tasks)
    return jobs_pb2.JOB_STATE_RUNNING if run_state == "running" and started else jobs_pb2.JOB_STATE_QUEUED


def first_start(tasks: Iterable[Task]) -> datetime | None:
    """When the first task started."""
    return min((task.start_time.ToDatetime() for task in tasks if task.HasField("start_time")), default=None)


def first_failed(tasks: Iterable[Task]) -> Task | None:
    """The task that failed before all others."""
    failed = [task for task in tasks if task.state == jobs_pb2.TASK_STATE_FAILED]
    return min(failed, key=lambda task: task.end_time.ToNanoseconds() or float("inf"), default=None)


def _set(target: Timestamp, moment: datetime | None) -> None:
    if moment is not None:
        target.FromDatetime(moment)
