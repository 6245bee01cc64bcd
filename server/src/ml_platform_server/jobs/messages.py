"""Jobs as the contract has them, made of what the store remembers and of what the pipeline engine has."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import Job, JobKind
from ml_platform_server.backends.airflow.pipelines import PipelineRun
from ml_platform_server.jobs.describe import describe
from ml_platform_server.store.tables import JobRow


def message_of(row: JobRow, url: str) -> Job:
    """A job as it is remembered, with a link to its run."""
    job = Job(
        job_id=row.job_id,
        kind=JobKind.ValueType(row.kind),
        pipeline=row.pipeline,
        state=jobs_pb2.JobState.ValueType(row.state),
        message=row.message,
        experiment_name=row.experiment_name,
        submitted_by=row.submitted_by,
        url=url,
    )
    job.parameters.update(row.conf)
    _set(job.create_time, row.create_time)
    _set(job.end_time, row.end_time)
    return job


def outcome_of(row: JobRow, url: str) -> Job:
    """A job as it is remembered, with a link to its run: with its tasks and runs, if it was seen to end."""
    job = message_of(row, url)
    if row.outcome:
        job.MergeFromString(row.outcome)
    return job


def tell_run(job: Job, run: PipelineRun) -> None:
    """Fill in how the run of a job stands."""
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
