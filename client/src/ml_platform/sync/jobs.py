# Made from ml_platform/aio/jobs.py by scripts/sync_api.py. Change that file and run `make generate`.
"""A handle on one job: watch it, wait for it, look again."""

from __future__ import annotations

from typing import Self

from ml_platform.progress import Progress, listener
from ml_platform.resources.jobs import Job, JobHandle, read_job
from ml_platform.rpcs import GET_JOB
from ml_platform.sync.invoker import Invoker
from ml_platform.sync.transport import refresh_if_running
from ml_platform.sync.watch import JobWatch
from ml_platform.v1 import jobs_pb2
from ml_platform.values import build
from ml_platform.watch_state import WatchState

PATIENCE = 60.0


class TrainingJob(JobHandle):
    """A job on the platform. Its attributes tell what was last seen; `refresh`, `watch` and `wait` look again.

    Example:
        >>> job = platform.train_model(experiment_name="fraud", parameters={"n_estimators": 50})
        >>> for update in job.watch():
        ...     print(update.job.state, [(task.task_id, task.state) for task in update.job.tasks])
        >>> job.best_run_id
        '8a1f...'
    """

    def __init__(self, invoker: Invoker, job: Job) -> None:
        super().__init__(job)
        self._invoker = invoker

    @property
    def best_run_id(self) -> str:
        """The run to register: the one whose primary metric is best. Empty while there is none."""
        refresh_if_running(self)
        return self._job.best_run_id

    def refresh(self) -> Self:
        """Ask how the job stands now."""
        self.see(look(self._invoker, self.job_id))
        return self

    def watch(
        self,
        *,
        resume_after: int = 0,
        timeout: float | None = None,
        heartbeats: bool = False,
        patience: float = PATIENCE,
    ) -> JobWatch:
        """Follow the job live: a snapshot, then every change, then one terminal update.

        Args:
            resume_after: the sequence of the last update seen on an earlier watch.
            timeout: seconds after which to stop with DeadlineExceeded; None for no limit.
            heartbeats: whether to tell heartbeats too; they repeat the last state.
            patience: seconds that a platform which went away may take to come back.

        Example:
            >>> with job.watch() as updates:
            ...     for update in updates:
            ...         print(update)
        """
        return watch(self._invoker, self, resume_after=resume_after, timeout=timeout, heartbeats=heartbeats, patience=patience)

    def wait(
        self,
        timeout: float | None = None,
        *,
        progress: Progress = False,
        raise_on_failure: bool = True,
        patience: float = PATIENCE,
    ) -> Self:
        """Wait until the job has ended.

        Args:
            timeout: seconds to wait at most; None for as long as it takes. The job goes on if it runs out.
            progress: True prints each change; a function is given each update.
            raise_on_failure: whether a job that failed raises.
            patience: seconds that a platform which went away may take to come back.

        Raises:
            JobFailed: the job failed; the error says in which task and why.
            DeadlineExceeded: the time ran out.

        Example:
            >>> job = job.wait(progress=True)
            >>> job.metrics["accuracy"]
            0.91
        """
        tell = listener(progress)
        with self.watch(timeout=timeout, patience=patience) as updates:
            for update in updates:
                tell(update)
        if raise_on_failure:
            self._job.raise_if_failed()
        return self


def look(invoker: Invoker, job_id: str) -> Job:
    """How a job stands now."""
    request = build(jobs_pb2.GetJobRequest, job_id=job_id)
    return read_job(invoker.call(GET_JOB, request).job)


def watch(
    invoker: Invoker,
    job: TrainingJob | str,
    *,
    resume_after: int = 0,
    timeout: float | None = None,
    heartbeats: bool = False,
    patience: float = PATIENCE,
) -> JobWatch:
    """Watch a job; a handle sees every update too."""
    watch_state = WatchState(
        job_id=job if isinstance(job, str) else job.job_id,
        sequence=resume_after,
        timeout=timeout,
        patience=patience,
        retries=invoker.config.retries,
        heartbeats=heartbeats,
    )
    return JobWatch(invoker, watch_state, None if isinstance(job, str) else job.see)
