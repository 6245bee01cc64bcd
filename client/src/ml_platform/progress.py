"""Turns the updates of a job into lines that people can follow."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ml_platform.resources.jobs import Job, JobUpdate, Task

# True prints lines, a function gets every update, False is silence.
Progress = bool | Callable[[JobUpdate], object]


class ProgressPrinter:
    """Prints what changed since the update before: the job's state, then its tasks, one line each."""

    def __init__(self, write: Callable[[str], object] = print) -> None:
        self._write = write
        self._state = ""
        self._tasks: dict[tuple[str, int], tuple[str, int]] = {}

    def __call__(self, update: JobUpdate) -> None:
        """Print what is new in an update."""
        job = update.job
        if job.state != self._state and not job.finished:
            self._line(f"job {job.job_id} is {job.state}")
        for task in job.tasks:
            self._tell(task)
        if job.finished and job.state != self._state:
            self._line(_ending(job))
        self._state = job.state

    def _tell(self, task: Task) -> None:
        seen = (task.state, task.try_number)
        key = (task.task_id, task.map_index)
        # A task that waits is no news; every job begins with all of them waiting.
        if self._tasks.get(key) != seen and task.state != "pending":
            self._line("  " + _described(task))
        self._tasks[key] = seen

    def _line(self, text: str) -> None:
        self._write(f"{datetime.now().astimezone():%H:%M:%S}  {text}")


def listener(progress: Progress) -> Callable[[JobUpdate], object]:
    """The function that gets the updates."""
    if callable(progress):
        return progress
    return ProgressPrinter() if progress else _silent


def _silent(_update: JobUpdate) -> None:
    """Say nothing."""


def _described(task: Task) -> str:
    name = task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]"
    attempt = f", try {task.try_number}" if task.try_number > 1 else ""
    took = ""
    if task.start_time and task.end_time and task.state in {"success", "failed"}:
        took = f", {(task.end_time - task.start_time).total_seconds():.1f} s"
    return f"{name}: {task.state}{attempt}{took}"


def _ending(job: Job) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(job.metrics.items()))
    outcome = f"job {job.job_id} ended with {job.state}"
    details = (job.message if job.state == "failed" else "", metrics, f"best run {job.best_run_id}" if job.best_run_id else "")
    return "; ".join(part for part in (outcome, *details) if part)
