"""Turns MLflow's experiments, runs and metrics into the contract's messages."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.protobuf import timestamp_pb2

from ml_platform.v1 import experiments_pb2
from ml_platform.v1.experiments_pb2 import RunStatus
from ml_platform_server.backends.mlflow import tag_keys
from ml_platform_server.backends.mlflow.links import Links

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Metric, Run

DESCRIPTION = "mlflow.note.content"
JOB_ID = "ml_platform.job_id"
REQUEST_ID = "ml_platform.request_id"
TAG_RULES = (
    "a key has at most 250 characters, of which each that is no letter, digit, blank or one of '_-.:/' counts as up to seven; "
    "a value has at most {longest} characters"
)
OWN_TAGS = ("mlflow.", "ml_platform.")

STATUSES: Mapping[str, RunStatus.ValueType] = {
    "RUNNING": experiments_pb2.RUN_STATUS_RUNNING,
    "SCHEDULED": experiments_pb2.RUN_STATUS_SCHEDULED,
    "FINISHED": experiments_pb2.RUN_STATUS_FINISHED,
    "FAILED": experiments_pb2.RUN_STATUS_FAILED,
    "KILLED": experiments_pb2.RUN_STATUS_KILLED,
}


def experiment_message(experiment: Experiment, links: Links) -> experiments_pb2.Experiment:
    """An experiment, with the user's tags only."""
    return experiments_pb2.Experiment(
        experiment_id=experiment.experiment_id,
        name=experiment.name,
        tags=users_tags(experiment.tags),
        create_time=timestamp(experiment.creation_time),
        update_time=timestamp(experiment.last_update_time),
        artifact_location=experiment.artifact_location or "",
        description=experiment.tags.get(DESCRIPTION, ""),
        url=links.experiment(experiment.experiment_id),
    )


def run_message(run: Run, links: Links) -> experiments_pb2.Run:
    """A run with all of its tags."""
    return experiments_pb2.Run(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        run_name=run.info.run_name or "",
        status=STATUSES.get(run.info.status, experiments_pb2.RUN_STATUS_UNSPECIFIED),
        start_time=timestamp(run.info.start_time),
        end_time=timestamp(run.info.end_time),
        metrics={key: metric_value(value) for key, value in run.data.metrics.items()},
        params=run.data.params,
        tags=run.data.tags,
        job_id=run.data.tags.get(JOB_ID, ""),
        url=links.run(run.info.experiment_id, run.info.run_id),
    )


def point_message(metric: Metric) -> experiments_pb2.MetricPoint:
    """One logged value of a metric."""
    return experiments_pb2.MetricPoint(value=metric_value(metric.value), step=metric.step, log_time=timestamp(metric.timestamp))


def metric_value(value: float) -> float:
    """A metric as it was logged: MLflow's database keeps an infinity as the largest finite number."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def users_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Without the tags that MLflow and the platform keep for themselves."""
    return {key: value for key, value in tag_keys.decoded(tags).items() if not key.startswith(OWN_TAGS)}


def timestamp(milliseconds: int | None) -> timestamp_pb2.Timestamp | None:
    """A point in time from MLflow's milliseconds since 1970."""
    if milliseconds is None:
        return None
    moment = timestamp_pb2.Timestamp()
    moment.FromMilliseconds(milliseconds)
    return moment
