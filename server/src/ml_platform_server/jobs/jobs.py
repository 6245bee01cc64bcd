"""Jobs of every kind: submitted once, remembered before they start, and told as pipeline, store and tracking know them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import Job, JobKind
from ml_platform_server.backends.airflow.errors import UnansweredError
from ml_platform_server.backends.airflow.pipelines import PipelineRun
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.best_run import best_run
from ml_platform_server.jobs.clock import Clock
from ml_platform_server.jobs.describe import GONE, LOST, describe
from ml_platform_server.jobs.ids import derived_id
from ml_platform_server.jobs.needs import PipelineEngine, Tracking
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.paging import Page
from ml_platform_server.store.tables import JobRow

log = structlog.get_logger(__name__)

ENDED = frozenset({jobs_pb2.JOB_STATE_SUCCESS, jobs_pb2.JOB_STATE_FAILED})

LOST_AFTER = timedelta(seconds=60)
"""How long a submitted job may be unknown to Airflow: a start whose answer got lost may still arrive."""

REFRESHED_IN_LIST = 20
"""Unfinished jobs of a page whose state is looked up anew; the rest is told as last seen."""

REFRESH_PATIENCE = 2.0
"""Seconds that a list waits for those looks."""


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What a job is to be: `conf` is what the pipeline is given."""

    kind: JobKind.ValueType
    pipeline: str
    conf: Mapping[str, Any]
    principal: str
    request_id: str = ""
    experiment_name: str = ""


class Jobs:
    """Submits jobs and tells how they stand."""

    def __init__(self, *, records: JobRecords, pipelines: PipelineEngine, tracking: Tracking, clock: Clock) -> None:
        self._records = records
        self._pipelines = pipelines
        self._tracking = tracking
        self._clock = clock
        self._on_end: dict[int, Callable[[Job], Awaitable[None]]] = {}

    def on_end(self, kind: JobKind.ValueType, follow_up: Callable[[Job], Awaitable[None]]) -> None:
        """Have something done when a job of a kind is seen to have ended, before anybody is told of the end.

        It may be called more than once for one job.
        """
        self._on_end[kind] = follow_up

    async def submit(self, new: NewJob) -> Job:
        """Remember a job, then start it. The same principal, kind and request id give the same job.

        Raises:
            PlatformError: what PipelineEngine.trigger raises; the job is then forgotten, unless it may have started all the same.
        """
        row, is_new = await self.record(new)
        try:
            await self.start(row)
        except PlatformError as error:
            if is_new and not may_have_started(error):
                await self.forget(row.job_id)
            raise
        return message_of(row)

    async def record(self, new: NewJob) -> tuple[JobRow, bool]:
        """Remember a job that is about to start; with it, whether it is new.

        Raises:
            PlatformError: REQUEST_ID_REUSED when the request id stands for another job.
        """
        kind = JobKind.Name(new.kind)
        row = JobRow(
            job_id=derived_id("mlp", principal=new.principal, kind=kind, request_id=new.request_id),
            kind=new.kind,
            pipeline=new.pipeline,
            state=jobs_pb2.JOB_STATE_QUEUED,
            experiment_name=new.experiment_name,
            conf=dict(new.conf),
            submitted_by=new.principal,
            message="Waits for a place to run.",
            create_time=self._clock.now(),
            end_time=None,
        )
        if await self._records.add(row):
            return row, True
        known = await self._records.get(row.job_id)
        if known is None or (known.pipeline, known.conf) != (row.pipeline, row.conf):
            raise PlatformError(
                errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
                "This request_id stands for another job.",
                remedy="Use a new request_id for a new job.",
                resource=("job", row.job_id),
            )
        return known, False

    async def start(self, row: JobRow) -> None:
        """Start a job that is remembered; starting it again is harmless."""
        await self._pipelines.trigger(row.pipeline, row.job_id, row.conf)
        log.info("job_started", job_id=row.job_id, kind=JobKind.Name(JobKind.ValueType(row.kind)), pipeline=row.pipeline)

    async def forget(self, job_id: str) -> None:
        """Forget a job that never started."""
        await self._records.remove(job_id)

    async def get(self, job_id: str) -> Job:
        """A job as it stands now, with its tasks and, for training, its runs.

        Raises:
            PlatformError: JOB_NOT_FOUND; BACKEND_UNAVAILABLE when Airflow does not answer. Without MLflow the runs are left out.
        """
        job = await self._look(await self.recorded(job_id))
        if job.kind == jobs_pb2.JOB_KIND_TRAINING:
            await self._add_runs(job)
        return job

    async def recorded(self, job_id: str) -> JobRow:
        """A job as it is remembered.

        Raises:
            PlatformError: JOB_NOT_FOUND.
        """
        row = await self._records.get(job_id)
        if row is None:
            raise PlatformError(
                errors_pb2.ERROR_REASON_JOB_NOT_FOUND,
                f"There is no job '{job_id}'.",
                remedy="Check the id; ListTrainingJobs tells the jobs that were submitted through the platform.",
                resource=("job", job_id),
            )
        return row

    async def list(
        self, page: Page, *, experiment_name: str = "", kind: JobKind.ValueType | None = None
    ) -> tuple[list[Job], str]:
        """A page of jobs, newest first, without tasks and runs; with it the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        rows, token = await self._records.list(page, experiment_name=experiment_name, kind=kind)
        jobs = {row.job_id: message_of(row) for row in rows}
        unfinished = [row for row in rows if row.state not in ENDED][:REFRESHED_IN_LIST]
        looks = [asyncio.create_task(self._look(row)) for row in unfinished]
        if looks:
            done, late = await asyncio.wait(looks, timeout=REFRESH_PATIENCE)
            for look in late:
                look.cancel()
            for job in (look.result() for look in done if not look.exception()):
                job.ClearField("tasks")
                jobs[job.job_id] = job
        return page.shortened(list(jobs.values()), token, rows, lambda row: (row.create_time, row.job_id))

    async def _look(self, row: JobRow) -> Job:
        run = await self._pipelines.state(row.pipeline, row.job_id)
        job = message_of(row)
        if run is None:
            self._tell_missing(job)
        else:
            _tell_run(job, run)
        end = job.end_time.ToDatetime(tzinfo=self._clock.now().tzinfo) if job.HasField("end_time") else None
        if (job.state, job.message) != (row.state, row.message) and not (run is None and row.state in ENDED):
            await self._records.refresh(row.job_id, state=job.state, message=job.message, end_time=end)
        await self._follow_up(job)
        return job

    def _tell_missing(self, job: Job) -> None:
        if job.state in ENDED:
            job.message = f"{job.message} {GONE}"
            return
        age = self._clock.now() - job.create_time.ToDatetime(tzinfo=self._clock.now().tzinfo)
        if job.state == jobs_pb2.JOB_STATE_QUEUED and age < LOST_AFTER:
            return
        job.state = jobs_pb2.JOB_STATE_FAILED
        job.message = LOST
        job.end_time.FromDatetime(self._clock.now())

    async def _follow_up(self, job: Job) -> None:
        follow_up = self._on_end.get(job.kind)
        if job.state not in ENDED or follow_up is None:
            return
        try:
            await follow_up(job)
        except Exception:
            # The job's state is true whatever becomes of what follows from it; that is tried again later.
            log.exception("job_follow_up_failed", job_id=job.job_id)

    async def _add_runs(self, job: Job) -> None:
        try:
            runs = await self._tracking.runs_of_job(job.job_id)
            with_models = await self._tracking.runs_with_models(runs) if len(runs) > 1 else set()
        except PlatformError as error:
            log.warning("job_runs_unknown", job_id=job.job_id, error=error.message)
            return
        best = best_run(runs, with_models)
        job.run_ids.extend(run.run_id for run in runs)
        if best:
            job.best_run_id = best.run_id
            job.metrics.update(runs[0].metrics)


def may_have_started(error: PlatformError) -> bool:
    """Whether a start that ended with this error may have reached Airflow all the same."""
    if isinstance(error, UnansweredError):
        return error.may_have_arrived
    return error.reason == errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


def message_of(row: JobRow) -> Job:
    """A job as it is remembered."""
    job = Job(
        job_id=row.job_id,
        kind=JobKind.ValueType(row.kind),
        pipeline=row.pipeline,
        state=jobs_pb2.JobState.ValueType(row.state),
        message=row.message,
        experiment_name=row.experiment_name,
        submitted_by=row.submitted_by,
    )
    job.parameters.update(row.conf)
    _set(job.create_time, row.create_time)
    _set(job.end_time, row.end_time)
    return job


def _tell_run(job: Job, run: PipelineRun) -> None:
    job.state = run.state
    job.message = describe(run)
    job.tasks.extend(run.tasks)
    job.failed_task_id = run.failed_task.task_id if run.failed_task else ""
    _set(job.start_time, run.start_time)
    job.ClearField("end_time")
    _set(job.end_time, run.end_time)


def _set(target: Timestamp, moment: datetime | None) -> None:
    if moment is not None:
        target.FromDatetime(moment)
