"""Jobs: training, deployment and materialization, each one run of one pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from ml_platform.errors import JobFailed, invalid
from ml_platform.records import Record
from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import JobKind
from ml_platform.values import enum_name, from_struct, to_datetime

FINISHED = frozenset({"success", "failed"})
_KINDS: dict[str, JobKind.ValueType] = {
    "training": jobs_pb2.JOB_KIND_TRAINING,
    "deployment": jobs_pb2.JOB_KIND_DEPLOYMENT,
    "materialization": jobs_pb2.JOB_KIND_MATERIALIZATION,
}


@dataclass(frozen=True, slots=True, repr=False)
class Task(Record):
    """One step of a job.

    `state` is "pending", "running", "success", "failed", "retrying", "skipped" or "upstream_failed". `try_number` counts attempts
    from 1 and is 0 before the first. `map_index` is -1 unless the task is one of a mapped group.
    """

    task_id: str
    state: str
    try_number: int
    start_time: datetime | None
    end_time: datetime | None
    map_index: int


@dataclass(frozen=True, slots=True, repr=False)
class Job(Record):
    """A job as it stood at one moment.

    `state` is "queued", "running", "success" or "failed". `status` is the same, except that it is "submitted" in what
    `train_model` returns. `kind` is "training", "deployment" or "materialization". `dag_id` is the pipeline under Airflow's name
    for it. `best_run_id` is the run to register, empty while there is none. `undeclared_parameters` are those that the pipeline
    does not declare though it declares others, perhaps because they are misspelt; only `train_model` fills them in. `url` is the
    page of the job's run in Airflow.
    """

    job_id: str
    dag_id: str
    status: str
    state: str
    message: str
    kind: str
    pipeline: str
    experiment_name: str
    parameters: dict[str, Any]
    submitted_by: str
    create_time: datetime | None
    start_time: datetime | None
    end_time: datetime | None
    tasks: tuple[Task, ...]
    run_ids: tuple[str, ...]
    best_run_id: str
    metrics: dict[str, float]
    failed_task_id: str
    undeclared_parameters: tuple[str, ...] = ()
    url: str = ""

    @property
    def finished(self) -> bool:
        """Whether the job has ended, well or not."""
        return self.state in FINISHED

    def raise_if_failed(self) -> None:
        """Raise JobFailed, with the task and the reason, if the job failed."""
        if self.state != "failed":
            return
        where = f" in task {self.failed_task_id!r}" if self.failed_task_id else ""
        raise JobFailed(
            f"Job {self.job_id} ({self.pipeline}) failed{where}: {self.message or 'the pipeline gave no reason'}",
            job=self,
            task=self.failed_task_id,
            remedy=f"Look at run {self.job_id!r} of DAG {self.pipeline!r} in Airflow, correct the cause and submit again.",
        )


@dataclass(frozen=True, slots=True, repr=False)
class JobUpdate(Record):
    """What a watch tells: `event` is "snapshot", "change", "heartbeat" or "terminal", and `job` is the full state with it."""

    event: str
    job: Job
    sequence: int
    observe_time: datetime | None

    def __str__(self) -> str:
        """The state in one line, for people."""
        tasks = ", ".join(f"{task.task_id} {task.state}" for task in self.job.tasks)
        return " | ".join(part for part in (f"{self.job.job_id} {self.job.state}", tasks, self.job.message) if part)


class JobHandle(Mapping[str, Any]):
    """A job and what was last seen of it. It answers like a dictionary too: `job["status"]`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    @property
    def info(self) -> Job:
        """Everything that was last seen of the job."""
        return self._job

    @property
    def job_id(self) -> str:
        """The job's id."""
        return self._job.job_id

    @property
    def dag_id(self) -> str:
        """The Airflow DAG that runs."""
        return self._job.dag_id

    @property
    def status(self) -> str:
        """Where the job stood when it was last seen: "submitted", "queued", "running", "success" or "failed"."""
        return self._job.status

    @property
    def state(self) -> str:
        """Where the job stood when it was last seen: "queued", "running", "success" or "failed"."""
        return self._job.state

    @property
    def message(self) -> str:
        """What happens, or which task failed and why, in one sentence."""
        return self._job.message

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The job's steps, in the order in which they start."""
        return self._job.tasks

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The tracking runs that the job made, newest first."""
        return self._job.run_ids

    @property
    def metrics(self) -> dict[str, float]:
        """The newest metrics of the job's newest run."""
        return self._job.metrics

    @property
    def undeclared_parameters(self) -> tuple[str, ...]:
        """The parameters that the pipeline does not declare though it declares others, as the submission found them."""
        return self._job.undeclared_parameters

    @property
    def url(self) -> str:
        """The page of the job's run in Airflow; empty where its address is not known."""
        return self._job.url

    @property
    def finished(self) -> bool:
        """Whether the job had ended when it was last seen."""
        return self._job.finished

    def _repr_html_(self) -> str:
        return self._job._repr_html_()

    def to_dict(self) -> dict[str, Any]:
        """What was last seen of the job, as plain dictionaries and lists."""
        return self._job.to_dict()

    def see(self, job: Job) -> None:
        """Take in a newer state of the job."""
        # Only the reply to the submission names them.
        undeclared = job.undeclared_parameters or self._job.undeclared_parameters
        self._job = replace(job, undeclared_parameters=undeclared)

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401  # each field has its own type
        return self._job[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._job)

    def __len__(self) -> int:
        return len(self._job)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JobHandle) and other.job_id == self.job_id

    def __hash__(self) -> int:
        return hash(self.job_id)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(job_id={self.job_id!r}, dag_id={self.dag_id!r}, status={self.status!r})"


def to_kind(name: str) -> JobKind.ValueType:
    """The kind of job of a name, in any case."""
    chosen = _KINDS.get(name.strip().lower()) if isinstance(name, str) else None
    if chosen is None:
        raise invalid("kind", f"{name!r} is not one of {', '.join(map(repr, _KINDS))}")
    return chosen


def read_job(message: jobs_pb2.Job) -> Job:
    """Make a job of its message."""
    state = enum_name(jobs_pb2.JobState.Name, message.state, "JOB_STATE_")
    return Job(
        job_id=message.job_id,
        dag_id=message.pipeline,
        status=state,
        state=state,
        message=message.message,
        kind=enum_name(JobKind.Name, message.kind, "JOB_KIND_"),
        pipeline=message.pipeline,
        experiment_name=message.experiment_name,
        parameters=from_struct(message.parameters),
        submitted_by=message.submitted_by,
        create_time=to_datetime(message, "create_time"),
        start_time=to_datetime(message, "start_time"),
        end_time=to_datetime(message, "end_time"),
        tasks=tuple(map(_task, message.tasks)),
        run_ids=tuple(message.run_ids),
        best_run_id=message.best_run_id,
        metrics=dict(message.metrics),
        failed_task_id=message.failed_task_id,
        undeclared_parameters=tuple(message.undeclared_parameters),
        url=message.url,
    )


def read_submitted(message: jobs_pb2.Job) -> Job:
    """Make a job of the answer to its submission: all that is known is that it was accepted."""
    return replace(read_job(message), status="submitted")


def read_update(message: jobs_pb2.WatchJobResponse, last: Job | None) -> JobUpdate | None:
    """Make an update of a message of a watch; a heartbeat repeats the last state. None if no state is known yet."""
    job = read_job(message.job) if message.HasField("job") else last
    if job is None:
        return None
    event = enum_name(jobs_pb2.WatchEvent.Name, message.event, "WATCH_EVENT_")
    return JobUpdate(event=event, job=job, sequence=message.sequence, observe_time=to_datetime(message, "observe_time"))


def _task(message: jobs_pb2.Task) -> Task:
    return Task(
        task_id=message.task_id,
        state=enum_name(jobs_pb2.TaskState.Name, message.state, "TASK_STATE_") if message.state else "pending",
        try_number=message.try_number,
        start_time=to_datetime(message, "start_time"),
        end_time=to_datetime(message, "end_time"),
        map_index=message.map_index,
    )
