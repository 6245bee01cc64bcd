"""TrainingService: jobs, submitted, told and watched."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from ml_platform.v1.training_pb2 import (
    GetTrainingJobRequest,
    GetTrainingJobResponse,
    ListTrainingJobsRequest,
    ListTrainingJobsResponse,
    SubmitTrainingJobRequest,
    SubmitTrainingJobResponse,
    WatchTrainingJobRequest,
    WatchTrainingJobResponse,
)
from ml_platform_server.call import Call
from ml_platform_server.jobs.hub import WatchHub
from ml_platform_server.jobs.jobs import Jobs
from ml_platform_server.jobs.training import Training
from ml_platform_server.store.paging import Page


class TrainingService:
    """Runs pipelines and tells how they go."""

    def __init__(self, *, training: Training, jobs: Jobs, hub: WatchHub) -> None:
        self._training = training
        self._jobs = jobs
        self._hub = hub

    async def SubmitTrainingJob(self, request: SubmitTrainingJobRequest, call: Call) -> SubmitTrainingJobResponse:
        """Start one run of a pipeline."""
        return SubmitTrainingJobResponse(job=await self._training.submit(request, call))

    async def GetTrainingJob(self, request: GetTrainingJobRequest, call: Call) -> GetTrainingJobResponse:  # noqa: ARG002
        """Tell a job as it stands now."""
        return GetTrainingJobResponse(job=await self._jobs.get(request.job_id))

    async def ListTrainingJobs(self, request: ListTrainingJobsRequest, call: Call) -> ListTrainingJobsResponse:  # noqa: ARG002
        """Tell a page of jobs."""
        page = Page.of(request)
        jobs, token = await self._jobs.list(page, experiment_name=request.experiment_name, kind=request.kind)
        return ListTrainingJobsResponse(jobs=jobs, next_page_token=token)

    async def WatchTrainingJob(
        self,
        request: WatchTrainingJobRequest,
        call: Call,  # noqa: ARG002
    ) -> AsyncGenerator[WatchTrainingJobResponse]:
        """Tell how a job goes, as it happens."""
        # Closed here, and not when the garbage collector comes by: the last watcher to leave ends the polling.
        async with aclosing(self._hub.watch(request.job_id, request.resume_after)) as messages:
            async for message in messages:
                yield message
