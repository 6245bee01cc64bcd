"""Training jobs: from what a caller asks for to the flat configuration that a pipeline is given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

from google.protobuf.struct_pb2 import Value

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import Job
from ml_platform.v1.training_pb2 import SubmitTrainingJobRequest
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.jobs.describe import UNDECLARED
from ml_platform_server.jobs.jobs import Jobs, JobSpec
from ml_platform_server.jobs.ports import Tracking
from ml_platform_server.settings import AirflowSettings
from ml_platform_server.struct_values import INEXACT, SAFE_INTEGER_LIMIT
from ml_platform_server.visible import what_is_wrong

RESERVED = ("experiment_name", "data_start_date", "data_end_date")

MOST_BYTES = 64 * 1024
"""Bytes of a job's parameters at most. They are stored, and returned with the job and in every list of jobs."""


class Training:
    """Starts training jobs."""

    def __init__(self, *, jobs: Jobs, tracking: Tracking, settings: AirflowSettings) -> None:
        self._jobs = jobs
        self._tracking = tracking
        self._settings = settings

    async def submit(self, request: SubmitTrainingJobRequest, call: Call) -> Job:
        """Start a training job.

        Raises:
            PlatformError: INVALID_FIELDS, PIPELINE_NOT_ALLOWED, EXPERIMENT_NOT_FOUND, EXPERIMENT_DELETED, and what
                Jobs.submit raises.
        """
        pipeline = request.pipeline or self._settings.training_pipeline
        violations = [*_violations(request)]
        if not pipeline:
            violations.append(Violation("pipeline", "is needed, because this server has no default pipeline"))
        if violations:
            raise PlatformError(
                errors_pb2.ERROR_REASON_INVALID_FIELDS,
                " ".join(f"{violation.field}: {violation.description}." for violation in violations),
                remedy="Correct the fields and call again.",
                violations=violations,
            )
        _check_allowed(pipeline, self._settings)
        await self._tracking.get(name=request.experiment_name)
        undeclared = await self._jobs.undeclared(pipeline, request.parameters.fields)
        job = await self._jobs.submit(
            JobSpec(
                kind=jobs_pb2.JOB_KIND_TRAINING,
                pipeline=pipeline,
                conf=configuration(request),
                principal=call.principal.name,
                request_id=request.request_id,
                experiment_name=request.experiment_name,
            )
        )
        if undeclared:
            job.undeclared_parameters.extend(undeclared)
            job.message = f"{job.message} {UNDECLARED.format(', '.join(undeclared))}"
        return job


def _check_allowed(pipeline: str, settings: AirflowSettings) -> None:
    """Refuse the platform's own pipelines, which other scopes guard, and what the settings do not allow."""
    own = {
        settings.deployment_pipeline.casefold(): "deploys models: call DeployModel, which needs the scope deployments:write.",
        settings.materialization_pipeline.casefold(): (
            "loads features: call MaterializeFeatures, which needs the scope features:write."
        ),
    }
    # Some of Airflow's databases do not distinguish upper from lower case.
    if remedy := own.get(pipeline.casefold()):
        raise _not_allowed(pipeline, "it is one of the platform's own", f"This pipeline {remedy}")
    patterns = [pattern.strip() for pattern in settings.training_pipelines.split(",")]
    if not any(fnmatchcase(pipeline, pattern) for pattern in patterns):
        remedy = "Ask the operator of this server, whose setting airflow.training_pipelines lists the pipelines that it allows."
        raise _not_allowed(pipeline, "the server does not allow it", remedy)


def _not_allowed(pipeline: str, why: str, remedy: str) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_PIPELINE_NOT_ALLOWED,
        f"A training job may not run the pipeline '{pipeline}': {why}.",
        remedy=remedy,
        resource=("pipeline", pipeline),
    )


def configuration(request: SubmitTrainingJobRequest) -> dict[str, Any]:
    """What the pipeline is given: experiment and dates where given, and every parameter, integers being integers again."""
    conf: dict[str, Any] = {"experiment_name": request.experiment_name}
    if request.data_start_date:
        conf["data_start_date"] = request.data_start_date
    if request.data_end_date:
        conf["data_end_date"] = request.data_end_date
    return conf | {name: _plain(value) for name, value in request.parameters.fields.items()}


def _plain(value: Value) -> Any:  # noqa: ANN401  # whatever JSON can hold
    """A protobuf value as Python has it; a number without a fraction as an integer."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return {name: _plain(item) for name, item in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _violations(request: SubmitTrainingJobRequest) -> Iterator[Violation]:
    for name in ("data_start_date", "data_end_date"):
        if not _is_date(getattr(request, name)):
            yield Violation(name, "is not a day of the calendar")
    size = request.parameters.ByteSize()
    if size > MOST_BYTES:
        yield Violation("parameters", f"take {size} bytes; at most {MOST_BYTES} are allowed")
        return
    for name, value in request.parameters.fields.items():
        if name in RESERVED:
            yield Violation(f"parameters.{name}", "is a reserved name; use the request's field of that name")
        elif problem := what_is_wrong(name) or _problem(value):
            yield Violation(f"parameters.{name}", problem)


def _is_date(text: str) -> bool:
    try:
        return not text or bool(date.fromisoformat(text))
    except ValueError:
        return False


def _problem(value: Value) -> str:
    """What keeps a value from reaching the pipeline as it was sent; empty if nothing does."""
    match value.WhichOneof("kind"):
        case "struct_value":
            return next(filter(None, map(_problem, value.struct_value.fields.values())), "")
        case "list_value":
            return next(filter(None, map(_problem, value.list_value.values)), "")
        case "number_value":
            if not math.isfinite(value.number_value):
                return "holds a number that is not finite"
            return f"holds a number that {INEXACT}" if abs(value.number_value) >= SAFE_INTEGER_LIMIT else ""
        case _:
            return ""
