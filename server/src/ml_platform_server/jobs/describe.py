"""A job's message: one sentence for a person."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import Task
from ml_platform_server.backends.airflow.pipelines import PipelineRun

# A user's own exception is shown as it is, except for passwords in addresses.
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")

NAMED_TASKS = 3
"""Tasks that a sentence names before it counts the rest."""

LOST = "Airflow has no run of this job: it never started there, or it was deleted there."
GONE = "Airflow no longer has this run; this is how it had ended."
UNDECLARED = "The pipeline does not declare the parameters {}; it may not read them."


def describe(run: PipelineRun) -> str:
    """What happens now, or which task failed and why."""
    if run.state == jobs_pb2.JOB_STATE_FAILED:
        return _failure(run)
    if run.state == jobs_pb2.JOB_STATE_SUCCESS:
        return _success(run)
    retrying = _of(run.tasks, jobs_pb2.TASK_STATE_RETRYING)
    if retrying:
        return f"{_names(retrying)} failed and will be tried again."
    running = _of(run.tasks, jobs_pb2.TASK_STATE_RUNNING)
    if running:
        return f"{_names(running)} {'runs' if len(running) == 1 else 'run'}."
    if run.state == jobs_pb2.JOB_STATE_QUEUED:
        return "Waits for a place to run."
    done = len(_of(run.tasks, jobs_pb2.TASK_STATE_SUCCESS))
    return f"{done} of {len(run.tasks)} tasks are done."


def _success(run: PipelineRun) -> str:
    """Airflow calls a run a success by its last tasks alone: others may have failed, or never run."""
    failed = _of(run.tasks, jobs_pb2.TASK_STATE_FAILED)
    skipped = _of(run.tasks, jobs_pb2.TASK_STATE_SKIPPED)
    if failed:
        return f"The run ended well, though {_inside(failed)} failed."
    if skipped:
        return f"Every task that ran ended well; {_inside(skipped)} {'was' if len(skipped) == 1 else 'were'} skipped."
    return "Every task ended well."


def _failure(run: PipelineRun) -> str:
    if run.gone:
        return f"The job cannot go on, because its pipeline is gone: {run.gone}."
    if run.ended_by:
        return _ended_from_outside(run)
    if run.failed_task is None:
        return "The run was ended as failed, though none of its tasks failed: by hand, it seems, for it was no time limit."
    reason = _CREDENTIALS.sub("…@", run.failure) or "it left no reason; Airflow's log of the task may tell more"
    return f"{_name(run.failed_task)} failed: {reason}{'' if reason.endswith(('.', '!', '?', '…')) else '.'}"


def _ended_from_outside(run: PipelineRun) -> str:
    """The tasks that ran at that time are failed now, too, and left no reason."""
    if run.failed_task is None:
        return f"The run was ended as failed, though none of its tasks failed: {run.ended_by}."
    return f"{_name(run.failed_task)} failed and left no reason: {run.ended_by}."


def _of(tasks: Iterable[Task], state: jobs_pb2.TaskState.ValueType) -> list[Task]:
    return [task for task in tasks if task.state == state]


def _name(task: Task) -> str:
    return f"Task '{task.task_id}'" + (f" [{task.map_index}]" if task.map_index >= 0 else "")


def _inside(tasks: Sequence[Task]) -> str:
    """Tasks, within a sentence."""
    names = _names(tasks)
    return names[0].lower() + names[1:]


def _names(tasks: Sequence[Task]) -> str:
    if len(tasks) == 1:
        return _name(tasks[0])
    names = list(dict.fromkeys(f"'{task.task_id}'" for task in tasks))
    shown = ", ".join(names[:NAMED_TASKS])
    return f"{len(tasks)} tasks ({shown}{', …' if len(names) > NAMED_TASKS else ''})"
