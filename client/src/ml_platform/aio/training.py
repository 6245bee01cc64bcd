"""Training jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_platform import rpcs
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.jobs import PATIENCE, AsyncTrainingJob, look, watch
from ml_platform.aio.watch import AsyncJobWatch
from ml_platform.dates import Day, to_day
from ml_platform.records import Listing
from ml_platform.resources.jobs import Job, read_job, read_submitted, to_kind
from ml_platform.v1 import jobs_pb2
from ml_platform.v1 import training_pb2 as pb
from ml_platform.values import build, to_struct


class AsyncTraining:
    """The part of the client that deals with jobs."""

    _invoker: AsyncInvoker

    async def train_model(
        self,
        experiment_name: str,
        data_start_date: Day | None = None,
        data_end_date: Day | None = None,
        parameters: Mapping[str, Any] | None = None,
        pipeline: str | None = None,
        *,
        request_id: str | None = None,
    ) -> AsyncTrainingJob:
        """Start a training pipeline and return at once.

        Args:
            experiment_name: the experiment that the job's runs belong to. It must exist.
            data_start_date: the first day of data to train on: "2024-01-01", a date or a datetime. A datetime with a time zone
                means its day in UTC. None leaves it to the pipeline.
            data_end_date: the last day of data to train on, included.
            parameters: what else the pipeline is given.
            pipeline: the id of the Airflow DAG; None means the server's default.
            request_id: makes a repeat of this call harmless.

        Returns:
            The job, with the status "submitted". Follow it with `watch` or `wait`.

        Raises:
            NotFound: there is no such experiment or pipeline.
            FailedPrecondition: the pipeline's file fails to import.

        Example:
            >>> job = await platform.train_model(
            ...     experiment_name="fraud", data_start_date="2024-01-01", data_end_date="2024-03-31", parameters={"max_depth": 3}
            ... )
            >>> job = await job.wait(progress=True)
            >>> job.best_run_id
            '8a1f...'
        """
        request = build(
            pb.SubmitTrainingJobRequest,
            experiment_name=experiment_name,
            data_start_date=to_day(data_start_date, "data_start_date"),
            data_end_date=to_day(data_end_date, "data_end_date"),
            parameters=None if parameters is None else to_struct(parameters, "parameters"),
            pipeline=pipeline,
            request_id=request_id,
        )
        response = await self._invoker.call(rpcs.SUBMIT_TRAINING_JOB, request)
        return AsyncTrainingJob(self._invoker, read_submitted(response.job))

    async def get_training_job_status(self, job_id: str) -> Job:
        """How a job stands now: `status` is "queued", "running", "success" or "failed", and `message` says it in words.

        Raises:
            NotFound: there is no such job.

        Example:
            >>> status = await platform.get_training_job_status(job.job_id)
            >>> status["status"], status["message"]
            ('running', 'Task train is running.')
        """
        return await look(self._invoker, job_id)

    async def get_training_job(self, job_id: str) -> AsyncTrainingJob:
        """A handle on a job that was submitted before: training, deployment or materialization.

        Raises:
            NotFound: there is no such job.

        Example:
            >>> job = await platform.get_training_job("mlp-3f2a")
            >>> await job.wait()
        """
        return AsyncTrainingJob(self._invoker, await look(self._invoker, job_id))

    async def list_training_jobs(
        self, experiment_name: str | None = None, *, kind: str | None = None, limit: int | None = None
    ) -> Listing[AsyncTrainingJob]:
        """The jobs submitted through the platform, newest first, without their tasks and runs.

        Args:
            experiment_name: only jobs of this experiment.
            kind: only jobs of this kind: "training", "deployment" or "materialization".
            limit: how many at most; None for all.

        Example:
            >>> [(job.job_id, job.status) for job in await platform.list_training_jobs(kind="training", limit=2)]
            [('mlp-3f2a', 'success'), ('mlp-09bc', 'failed')]
        """
        number = None if kind is None else to_kind(kind)
        request = build(jobs_pb2.ListJobsRequest, experiment_name=experiment_name, kind=number)
        return await self._invoker.collect(
            rpcs.LIST_JOBS,
            request,
            lambda page: page.jobs,
            lambda message: AsyncTrainingJob(self._invoker, read_job(message)),
            limit=limit,
        )

    def watch_training_job(
        self,
        job_id: str,
        *,
        resume_after: int = 0,
        timeout: float | None = None,
        heartbeats: bool = False,
        patience: float = PATIENCE,
    ) -> AsyncJobWatch:
        """Follow a job live, by its id: a snapshot, then every change, then one terminal update.

        Args:
            job_id: the job's id, of any kind of job.
            resume_after: the sequence of the last update seen on an earlier watch.
            timeout: seconds after which to stop with DeadlineExceeded; None for no limit.
            heartbeats: whether to tell heartbeats too; they repeat the last state.
            patience: seconds that a platform which went away may take to come back.

        Example:
            >>> async for update in platform.watch_training_job("mlp-3f2a"):
            ...     print(update)
        """
        return watch(self._invoker, job_id, resume_after=resume_after, timeout=timeout, heartbeats=heartbeats, patience=patience)
