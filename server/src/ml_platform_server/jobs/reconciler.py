"""What follows from the end of a deployment's checks: traffic moves or stays, and the registry's aliases follow."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from ml_platform.v1 import deployments_pb2, errors_pb2, jobs_pb2
from ml_platform.v1.deployments_pb2 import ServingRuntime
from ml_platform.v1.jobs_pb2 import Job
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.clock import Clock
from ml_platform_server.jobs.deployments import runtime_of
from ml_platform_server.jobs.jobs import ENDED, Jobs
from ml_platform_server.jobs.ports import Registry
from ml_platform_server.settings import JobSettings
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.tables import DeploymentRow

log = structlog.get_logger(__name__)

FOLLOW_UP_PATIENCE = 5.0
"""Seconds that the end of a deployment waits for the serving side and the registry's aliases; what is late follows later."""

ANSWERS = "Answers predictions."
REMEDY = "Log the model with input_example=, so that it is asked with a row of its own."

ROUND_TIMEOUT = 30.0
"""Seconds that a round waits for its polls. One that hangs goes on, and the next round joins it."""

_VERSION_IS_GONE = frozenset({errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, errors_pb2.ERROR_REASON_MODEL_VERSION_NOT_FOUND})


class Reconciler:
    """Looks after deployments in progress, whether or not anybody watches, and survives whatever goes wrong in a round.

    Several servers may do this at once: the records let exactly one of them make an end count.

    Args:
        records: the deployments.
        jobs: reads the state of their jobs.
        registry: where the aliases are.
        settings: the intervals.
        clock: what waits.
        on_activated: makes this process's own predictions follow at once; other processes follow by the generation.
    """

    def __init__(
        self,
        *,
        records: DeploymentRecords,
        jobs: Jobs,
        registry: Registry,
        settings: JobSettings,
        clock: Clock,
        on_activated: Callable[[], Awaitable[None]],
    ) -> None:
        self._records = records
        self._jobs = jobs
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._on_activated = on_activated
        self._stopped = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._polls: dict[str, asyncio.Task[None]] = {}
        jobs.on_terminal(jobs_pb2.JOB_KIND_DEPLOYMENT, self.prompt)

    async def open(self) -> None:
        """Begin the rounds."""
        self._task = asyncio.create_task(self._rounds(), name="reconcile deployments")

    async def close(self) -> None:
        """End the rounds."""
        self._stopped.set()
        if self._task:
            tasks = [self._task, *self._polls.values()]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def reconcile(self) -> None:
        """One round: poll the job of every deployment in progress, and mirror what is not mirrored."""
        polls = [self._poll(row) for row in await self._records.in_progress()]
        if polls:
            await asyncio.wait(polls, timeout=ROUND_TIMEOUT)
        await self.mirror()

    async def prompt(self, job: Job, wait: float) -> bool:
        """Poll a deployment now, because a reader has seen its job end; return whether the end counts by now.

        The reader waits so many seconds, so that traffic has moved when the end is returned. Nothing that follows from the end
        is the reader's doing: the poll is the reconciler's own, and without rounds there is none.
        """
        if self._task is None:
            return True
        until = asyncio.get_running_loop().time() + wait
        for _ in range(2):  # The poll that is under way may have begun before the end.
            row = await self._records.of_job(job.job_id)
            if row is None or row.state != deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS:
                return True
            left = until - asyncio.get_running_loop().time()
            await asyncio.wait([self._poll(row)], timeout=max(0.0, left))
        row = await self._records.of_job(job.job_id)
        return row is None or row.state != deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS

    def _poll(self, row: DeploymentRow) -> asyncio.Task[None]:
        """The poll of a deployment that is under way, or a new one. No caller's deadline cuts it short."""
        if row.deployment_id not in self._polls:
            poll = asyncio.create_task(self._reconcile_one(row), name=f"poll {row.deployment_id}", context=contextvars.Context())
            self._polls[row.deployment_id] = poll
            poll.add_done_callback(lambda _: self._polls.pop(row.deployment_id))
        return self._polls[row.deployment_id]

    async def _reconcile_one(self, row: DeploymentRow) -> None:
        try:
            job = await self._refresh(row)
            if job is not None and job.state in ENDED:
                await self.finalize(job)
            elif self._clock.now() - row.create_time >= timedelta(seconds=self._settings.deployment_timeout):
                await self._time_out(row, job.message if job else "Airflow does not answer.")
        except Exception:
            log.exception("deployment_poll_failed", deployment_id=row.deployment_id)

    async def _refresh(self, row: DeploymentRow) -> Job | None:
        try:
            return await self._jobs.refresh(await self._jobs.get_row(row.job_id))
        except PlatformError as error:
            log.warning("deployment_poll_failed", deployment_id=row.deployment_id, error=error.message)
            return None

    async def _time_out(self, row: DeploymentRow, last: str) -> None:
        """Fail a deployment whose checks take too long, so that its model and environment are free again, and end its job."""
        limit = timedelta(seconds=self._settings.deployment_timeout)
        why = f"the checks of this deployment did not end within {limit} (jobs.deployment_timeout)"
        if not await self._records.fail(row.deployment_id, f"{why[0].upper()}{why[1:]}. Last seen: {last}"):
            return
        log.warning("deployment_timed_out", deployment_id=row.deployment_id, model_name=row.model_name, last=last)
        try:
            await self._jobs.end(await self._jobs.get_row(row.job_id), why)
        except PlatformError as error:
            log.warning("deployment_job_not_ended", deployment_id=row.deployment_id, job_id=row.job_id, error=error.message)

    async def finalize(self, job: Job) -> None:
        """Make the end of a deployment's job count: traffic moves if it ended well, and stays if not."""
        row = await self._records.of_job(job.job_id)
        if row is None or row.state != deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS:
            return
        if not _passed(job):
            if await self._records.fail(row.deployment_id, job.message):
                log.info("deployment_failed", deployment_id=row.deployment_id, model_name=row.model_name, why=job.message)
            return
        runtime, message = await self._checked(row)
        if await self._records.activate(row.deployment_id, runtime, message):
            log.info("deployment_activated", deployment_id=row.deployment_id, model_name=row.model_name, version=row.version)
        try:
            async with asyncio.timeout(FOLLOW_UP_PATIENCE):
                await asyncio.gather(self._on_activated(), self.mirror())
        except TimeoutError:
            log.warning("deployment_follow_up_late", deployment_id=row.deployment_id)

    async def _checked(self, row: DeploymentRow) -> tuple[ServingRuntime.ValueType, str]:
        """What is to execute the version, now that its checks know, and the message that shows what they could not find out.

        The runtime is undecided while MLflow is away: serving the version will find it out.
        """
        try:
            async with asyncio.timeout(FOLLOW_UP_PATIENCE):
                version = await self._registry.get_version(row.model_name, row.version)
        except (PlatformError, TimeoutError) as error:
            log.warning("checks_not_read", deployment_id=row.deployment_id, error=str(error))
            return ServingRuntime.ValueType(row.runtime), ANSWERS
        runtime = ServingRuntime.ValueType(row.runtime) or runtime_of(version.flavors, version.onnx_conversion)
        return runtime, ANSWERS if not version.doubt else f"{ANSWERS} Its checks are in doubt: it {version.doubt}. {REMEDY}"

    async def mirror(self) -> None:
        """Point the registry's aliases to what is active, so that other tools see the same truth."""
        for row in await self._records.unmirrored():
            try:
                await self._mirror(row)
            except PlatformError as error:
                log.warning("alias_mirror_failed", deployment_id=row.deployment_id, error=error.message)

    async def _mirror(self, row: DeploymentRow) -> None:
        try:
            await self._registry.set_alias(row.model_name, row.environment, row.version)
        except PlatformError as error:
            if error.reason not in _VERSION_IS_GONE:
                raise
            # Deleted from the registry; an alias has nothing left to point to, now or later.
            log.warning("alias_without_version", deployment_id=row.deployment_id, model_name=row.model_name, version=row.version)
        await self._records.mark_mirrored(row)

    async def _rounds(self) -> None:
        while not self._stopped.is_set():
            try:
                await self.reconcile()
            except Exception:
                log.exception("reconcile_failed")
            await self._clock.wait(self._stopped, self._settings.reconcile_interval)


def _passed(job: Job) -> bool:
    """Whether every check was made and went well: Airflow calls a run a success though tasks of it were skipped."""
    return job.state == jobs_pb2.JOB_STATE_SUCCESS and all(task.state == jobs_pb2.TASK_STATE_SUCCESS for task in job.tasks)
