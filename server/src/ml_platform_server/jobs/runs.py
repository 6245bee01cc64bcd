"""The tracking runs of a job, searched beside the job's state, which never waits long for them."""

from __future__ import annotations

import asyncio
import contextvars
from collections import OrderedDict
from dataclasses import dataclass, field

import structlog

from ml_platform.v1.jobs_pb2 import Job
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.best_run import best_run
from ml_platform_server.jobs.ports import Tracking

log = structlog.get_logger(__name__)

JOBS_KEPT = 1000
"""Jobs whose runs are remembered, for the time when MLflow does not answer."""

LEFT_OUT = "MLflow does not answer in time, so the runs of this job are left out."


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """What the tracking system has of a job."""

    run_ids: tuple[str, ...] = ()
    best_run_id: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


class RunsOfJobs:
    """Adds its runs to a job, as they are now or as they were last seen.

    Args:
        tracking: where the runs are.
    """

    def __init__(self, *, tracking: Tracking) -> None:
        self._tracking = tracking
        self._known: OrderedDict[str, FoundRuns] = OrderedDict()
        self._searches: dict[tuple[str, bool], tuple[asyncio.Task[FoundRuns | None], float]] = {}

    async def add(self, job: Job, *, ended: bool, wait: float, outcome: Job) -> bool:
        """Add the runs of a training job; return whether they are known as they are now.

        Args:
            job: the job, without runs.
            ended: whether it has ended: then other experiments are searched too.
            wait: how many seconds to wait for the tracking system.
            outcome: the job as the store has it since its end, if it has.
        """
        search, begun = self._search(job, ended)
        left = begun + wait - asyncio.get_running_loop().time()
        await asyncio.wait([search], timeout=max(0.0, left))
        found = search.result() if search.done() else None
        known = found or self._known.get(job.job_id) or _runs_of(outcome)
        if known is None:
            job.message = f"{job.message} {LEFT_OUT}"
        else:
            job.run_ids.extend(known.run_ids)
            job.best_run_id = known.best_run_id
            job.metrics.update(known.metrics)
        return found is not None

    def _search(self, job: Job, ended: bool) -> tuple[asyncio.Task[FoundRuns | None], float]:
        """The search that is under way or a new one, and when it began: while MLflow hangs, a job has one at most."""
        key = (job.job_id, ended)
        if key not in self._searches:
            # A context of its own: it may outlive the call that began it, and with it that call's deadline.
            coming = asyncio.create_task(self._find(job.job_id, job.experiment_name, ended), context=contextvars.Context())
            self._searches[key] = coming, asyncio.get_running_loop().time()
            coming.add_done_callback(lambda _: self._searches.pop(key))
        return self._searches[key]

    async def _find(self, job_id: str, experiment_name: str, ended: bool) -> FoundRuns | None:
        try:
            runs = await self._tracking.runs_of_job(job_id, experiment_name, everywhere=ended)
            with_models = await self._tracking.runs_with_models(runs) if len(runs) > 1 else set()
        except PlatformError as error:
            log.warning("job_runs_unknown", job_id=job_id, error=error.message)
            return None
        except Exception:
            log.exception("job_runs_unknown", job_id=job_id)
            return None
        best = best_run(runs, with_models)
        found = FoundRuns(
            run_ids=tuple(run.run_id for run in runs),
            best_run_id=best.run_id if best else "",
            metrics=dict(runs[0].metrics) if runs else {},
        )
        self._known[job_id] = found
        self._known.move_to_end(job_id)
        if len(self._known) > JOBS_KEPT:
            self._known.popitem(last=False)
        return found


def _runs_of(outcome: Job) -> FoundRuns | None:
    return FoundRuns(tuple(outcome.run_ids), outcome.best_run_id, dict(outcome.metrics)) if outcome.run_ids else None
