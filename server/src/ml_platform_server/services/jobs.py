"""JobService: jobs of every kind, read and watched."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ml_platform.v1.jobs_pb2 import (
    GetJobRequest,
    GetJobResponse,
    ListJobsRequest,
    ListJobsResponse,
    WatchJobRequest,
    WatchJobResponse,
)
from ml_platform_server.call import Call
from ml_platform_server.jobs.hub import WatchHub
from ml_platform_server.jobs.jobs import Jobs
from ml_platform_server.store.paging import Page


class JobService:
    """Reads and watches jobs of every kind."""

    def __init__(self, *, jobs: Jobs, hub: WatchHub) -> None:
        self._jobs = jobs
        self._hub = hub

    async def GetJob(self, request: GetJobRequest, call: Call) -> GetJobResponse:  # noqa: ARG002
        """Return the current state of a job."""
        return GetJobResponse(job=await self._jobs.get(request.job_id))

    async def ListJobs(self, request: ListJobsRequest, call: Call) -> ListJobsResponse:  # noqa: ARG002
        """Return a page of jobs."""
        page = Page.of(request)
        jobs, token = await self._jobs.list(page, experiment_name=request.experiment_name, kind=request.kind)
        return ListJobsResponse(jobs=jobs, next_page_token=token)

    async def WatchJob(self, request: WatchJobRequest, call: Call) -> AsyncGenerator[WatchJobResponse]:  # noqa: ARG002
        """Stream the states of a job as they change."""
        # Closed here, and not when the garbage collector comes by: the last watcher to leave ends the polling.
        async with aclosing(self._hub.watch(request.job_id, request.resume_after)) as messages:
            async for message in messages:
                yield message
