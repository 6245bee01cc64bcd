"""Experiments, runs and what the runs measured."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from ml_platform.records import Record
from ml_platform.v1 import experiments_pb2
from ml_platform.values import enum_name, to_datetime


@dataclass(frozen=True, slots=True, repr=False)
class Experiment(Record):
    """A group of runs that try to answer the same question.

    `status` is "created" for one that was just made and "active" for one that was looked up. `url` is its page in MLflow.
    """

    experiment_id: str
    name: str
    status: str
    tags: dict[str, str]
    description: str
    create_time: datetime | None
    update_time: datetime | None
    artifact_location: str
    url: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class Run(Record):
    """One attempt: what went in, what came out, and labels.

    `status` is one of "running", "scheduled", "finished", "failed", "killed". `metrics` holds the newest value of each metric;
    `params` are text. `job_id` is empty for a run made outside the platform. `url` is its page in MLflow.
    """

    run_id: str
    experiment_id: str
    run_name: str
    status: str
    start_time: datetime | None
    end_time: datetime | None
    metrics: dict[str, float]
    params: dict[str, str]
    tags: dict[str, str]
    job_id: str
    url: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class MetricPoint(Record):
    """One logged value of one metric. `step` is 0 if the run named none."""

    value: float
    step: int
    log_time: datetime | None


def read_experiment(message: experiments_pb2.Experiment, *, status: str = "active") -> Experiment:
    """Make an experiment of its message."""
    return Experiment(
        experiment_id=message.experiment_id,
        name=message.name,
        status=status,
        tags=dict(message.tags),
        description=message.description,
        create_time=to_datetime(message, "create_time"),
        update_time=to_datetime(message, "update_time"),
        artifact_location=message.artifact_location,
        url=message.url,
    )


def read_run(message: experiments_pb2.Run) -> Run:
    """Make a run of its message."""
    return Run(
        run_id=message.run_id,
        experiment_id=message.experiment_id,
        run_name=message.run_name,
        status=enum_name(experiments_pb2.RunStatus.Name, message.status, "RUN_STATUS_"),
        start_time=to_datetime(message, "start_time"),
        end_time=to_datetime(message, "end_time"),
        metrics=dict(message.metrics),
        params=dict(message.params),
        tags=dict(message.tags),
        job_id=message.job_id,
        url=message.url,
    )


def read_point(message: experiments_pb2.MetricPoint) -> MetricPoint:
    """Make a metric point of its message."""
    return MetricPoint(value=message.value, step=message.step, log_time=to_datetime(message, "log_time"))
