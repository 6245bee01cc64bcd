"""Jobs of every kind: recorded before they start, submitted once, and read from the engine, the store and the tracking system."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import Job, JobKind
from ml_platform_server.backends.airflow.endings import NOTE
from ml_platform_server.backends.airflow.errors import AirflowUnavailableError
from ml_platform_server.errors import PlatformError, request_id_reused
from ml_platform_server.jobs.clock import Clock
from ml_platform_server.jobs.describe import GONE, LOST
from ml_platform_server.jobs.ids import derived_id
from ml_platform_server.jobs.messages import message_of, outcome_of, tell_run
from ml_platform_server.jobs.ports import PipelineEngine, Tracking
from ml_platform_server.jobs.runs import RunsOfJobs
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.paging import Page
from ml_platform_server.store.tables import JobRow

log = structlog.get_logger(__name__)

ENDED = frozenset({jobs_pb2.JOB_STATE_SUCCESS, jobs_pb2.JOB_STATE_FAILED})

LOST_AFTER = timedelta(seconds=60)
"""How long a submitted job may be unknown to Airflow: a start whose answer got lost may still arrive."""

REFRESHED_IN_LIST = 20
"""Unfinished jobs of a page whose state is polled; the others are returned as last seen."""

REFRESH_PATIENCE = 2.0
"""Seconds that a list waits for those looks."""

POLL_TIMEOUT = 1.0
"""Seconds that a poll waits for what is only an addition: the runs of a job, and the present state of one that has ended."""

FollowUp = Callable[[Job, float], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What a job is to be: `conf` is what the pipeline is given."""

    kind: JobKind.ValueType
    pipeline: str
    conf: Mapping[str, Any]
    principal: str
    request_id: str = ""
    experiment_name: str = ""


@dataclass(frozen=True, slots=True)
class PollResult:
    """A job as one poll found it; `complete` unless its runs, or what follows from its end, came too late for this poll."""

    job: Job
    complete: bool = True


class Jobs:
    """Submits jobs and returns their state.

    Args:
        run_page: returns the link to a run, from its pipeline and its id.
    """

    def __init__(
        self,
        *,
        records: JobRecords,
        pipelines: PipelineEngine,
        tracking: Tracking,
        clock: Clock,
        run_page: Callable[[str, str], str],
    ) -> None:
        self._run_page = run_page
        self._records = records
        self._pipelines = pipelines
        self._runs = RunsOfJobs(tracking=tracking)
        self._clock = clock
        self._on_end: dict[int, FollowUp] = {}

    def on_terminal(self, kind: JobKind.ValueType, follow_up: FollowUp) -> None:
        """Register a callback for jobs of a kind that are seen to have ended.

        It is called with the job and the seconds to wait, and returns whether what follows from the end is done.
        It may be called more than once for one job.
        """
        self._on_end[kind] = follow_up

    async def undeclared(self, pipeline: str, names: Collection[str]) -> list[str]:
        """See PipelineEngine."""
        return await self._pipelines.undeclared(pipeline, names)

    async def submit(self, new: JobSpec) -> Job:
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
        return self._message_of(row)

    async def record(self, new: JobSpec) -> tuple[JobRow, bool]:
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
            raise request_id_reused(
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
            PlatformError: JOB_NOT_FOUND; BACKEND_UNAVAILABLE when Airflow does not answer and the job has not ended. Without
                MLflow the runs are left out.
        """
        return (await self.poll(job_id)).job

    async def poll(self, job_id: str, wait: float = POLL_TIMEOUT) -> PollResult:
        """A job as it stands now, as `get` has it, and whether that is all of it.

        Args:
            job_id: the job.
            wait: how many seconds to wait, once it has ended, for its runs and for what follows from its end.
        """
        row = await self.get_row(job_id)
        job = await self.refresh(row, wait)
        ended = job.state in ENDED
        complete = True
        if job.kind == jobs_pb2.JOB_KIND_TRAINING and not job.run_ids:
            for_runs = wait if ended else min(wait, POLL_TIMEOUT)
            complete = await self._runs.add(job, ended=ended, wait=for_runs, outcome=self._outcome_of(row))
        if ended and complete:
            await self._keep_outcome(row, job)
        if ended and (follow_up := self._on_end.get(job.kind)):
            complete = await self._followed_up(follow_up, job, wait) and complete
        return PollResult(job, complete)

    async def end(self, row: JobRow, why: str) -> None:
        """End a job as failed in the pipeline engine; harmless if it has ended.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when Airflow does not answer.
        """
        await self._pipelines.end(row.pipeline, row.job_id, f"{NOTE}{why}")

    async def get_row(self, job_id: str) -> JobRow:
        """A job as it is remembered.

        Raises:
            PlatformError: JOB_NOT_FOUND.
        """
        row = await self._records.get(job_id)
        if row is None:
            raise PlatformError(
                errors_pb2.ERROR_REASON_JOB_NOT_FOUND,
                f"There is no job '{job_id}'.",
                remedy="Check the id; ListJobs tells the jobs that were submitted through the platform.",
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
        jobs = {row.job_id: self._message_of(row) for row in rows}
        unfinished = [row for row in rows if row.state not in ENDED][:REFRESHED_IN_LIST]
        looks = [asyncio.create_task(self.refresh(row)) for row in unfinished]
        if looks:
            done, late = await asyncio.wait(looks, timeout=REFRESH_PATIENCE)
            for look in late:
                look.cancel()
            for job in (look.result() for look in done if not look.exception()):
                job.ClearField("tasks")
                jobs[job.job_id] = job
        return page.shortened(list(jobs.values()), token, rows, lambda row: (row.create_time, row.job_id))

    async def refresh(self, row: JobRow, wait: float = POLL_TIMEOUT) -> Job:
        """A job as the pipeline engine has it now, remembered; a job that has ended as it was kept, if the engine is late.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when Airflow does not answer and the job has not ended.
        """
        try:
            async with asyncio.timeout(wait if row.state in ENDED else None):
                run = await self._pipelines.state(row.pipeline, row.job_id)
        except (PlatformError, TimeoutError) as error:
            if row.state not in ENDED:
                raise
            log.warning("ended_job_read_from_store", job_id=row.job_id, error=str(error))
            return self._outcome_of(row)
        job = self._message_of(row)
        if run is None:
            job = self._missing(row)
        else:
            tell_run(job, run)
        end = job.end_time.ToDatetime(tzinfo=self._clock.now().tzinfo) if job.HasField("end_time") else None
        if (job.state, job.message) != (row.state, row.message) and not (run is None and row.state in ENDED):
            await self._records.refresh(row.job_id, state=job.state, message=job.message, end_time=end)
            row.state, row.message, row.end_time, row.outcome = job.state, job.message, end, None
        return job

    def _message_of(self, row: JobRow) -> Job:
        return message_of(row, self._run_page(row.pipeline, row.job_id))

    def _outcome_of(self, row: JobRow) -> Job:
        return outcome_of(row, self._run_page(row.pipeline, row.job_id))

    def _missing(self, row: JobRow) -> Job:
        job = self._outcome_of(row)
        if job.state in ENDED:
            job.message = f"{job.message} {GONE}"
            return job
        age = self._clock.now() - job.create_time.ToDatetime(tzinfo=self._clock.now().tzinfo)
        if job.state == jobs_pb2.JOB_STATE_QUEUED and age < LOST_AFTER:
            return job
        job.state = jobs_pb2.JOB_STATE_FAILED
        job.message = LOST
        job.end_time.FromDatetime(self._clock.now())
        return job

    async def _keep_outcome(self, row: JobRow, job: Job) -> None:
        kept = Job()
        kept.CopyFrom(job)
        kept.ClearField("parameters")  # The row has them.
        kept.ClearField("url")  # The address may be configured anew.
        outcome = kept.SerializeToString(deterministic=True)
        if outcome != row.outcome and row.message == job.message:
            await self._records.keep_outcome(row.job_id, outcome)

    async def _followed_up(self, follow_up: FollowUp, job: Job, wait: float) -> bool:
        try:
            return await follow_up(job, wait)
        except Exception:
            # The job's state is true whatever becomes of what follows from it; that is tried again later.
            log.exception("job_follow_up_failed", job_id=job.job_id)
            return False


def may_have_started(error: PlatformError) -> bool:
    """Whether a start that ended with this error may have reached Airflow all the same."""
    if isinstance(error, AirflowUnavailableError):
        return error.may_have_arrived
    return error.reason == errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED
