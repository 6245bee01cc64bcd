"""Pipelines: starting a run of a DAG, and telling how a run goes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import JobState, Task
from ml_platform_server.backends.airflow import parameters, requests, tasks
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.endings import Endings
from ml_platform_server.backends.airflow.errors import AirflowHTTPError, AirflowUnavailableError
from ml_platform_server.backends.airflow.failures import broken_file, reason_in_log, reason_in_traceback
from ml_platform_server.errors import PlatformError, request_id_reused

if TYPE_CHECKING:
    from airflow_client.client import DAGResponse, ImportErrorResponse

log = structlog.get_logger(__name__)

BAD_REQUEST = 400
NOT_FOUND = 404
CONFLICT = 409

REASONS_KEPT = 1000
"""Failed attempts whose reason is remembered; a log does not change once its attempt has ended."""


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline as it stands now.

    Attributes:
        failure: the failed task's own last word; empty if it left none.
        ended_by: who or what ended the run, in a sentence, where no task's failure shows it.
        gone: why the run never ends by itself, in a sentence; it then counts as failed.
    """

    state: JobState.ValueType
    tasks: tuple[Task, ...]
    start_time: datetime | None
    end_time: datetime | None
    failed_task: Task | None = None
    failure: str = ""
    ended_by: str = ""
    gone: str = ""


class Pipelines:
    """The pipelines that Airflow knows."""

    def __init__(self, *, backend: AirflowBackend) -> None:
        self._backend = backend
        self._endings = Endings(backend=backend)
        self._reasons: OrderedDict[tuple[str, str, str, int, int], str] = OrderedDict()

    async def undeclared(self, pipeline: str, names: Collection[str]) -> list[str]:
        """The names of parameters that a pipeline does not declare although it declares others.

        Raises:
            PlatformError: INVALID_FIELDS for names that are probably misspelt.
        """
        return parameters.undeclared(names, await self._declared(pipeline)) if names else []

    async def end(self, pipeline: str, run_id: str, why: str) -> None:
        """End a run as failed; harmless if it has ended.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when Airflow does not answer.
        """
        await self._backend.call(requests.end_run, pipeline, run_id, why)

    async def trigger(self, pipeline: str, run_id: str, conf: Mapping[str, Any]) -> None:
        """Start a run. Starting the same run again with the same configuration is harmless.

        Raises:
            PlatformError: PIPELINE_NOT_FOUND, PIPELINE_BROKEN; INVALID_FIELDS when the pipeline declares its parameters
                and these are not of that kind; REQUEST_ID_REUSED when the run exists with another configuration.
            AirflowUnavailableError: Airflow does not answer; `may_have_arrived` tells whether the run may have started.
        """
        dag = await self._runnable(pipeline)
        if dag.is_paused:
            await self._backend.call(requests.unpause, pipeline)
        try:
            await self._start(pipeline, run_id, dict(conf))
        except AirflowUnavailableError as unanswered:
            if not unanswered.may_have_arrived:
                raise
            # The run's id makes a second try safe, and it tells whether the first one arrived.
            await self._start(pipeline, run_id, dict(conf))

    async def state(self, pipeline: str, run_id: str) -> PipelineRun | None:
        """How a run stands now, or None if Airflow has no such run.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when Airflow does not answer.
        """
        try:
            # The run first: once it has ended, so have its tasks, whenever they are read.
            run = await self._backend.call(requests.read_run, pipeline, run_id)
            instances = await self._backend.call(requests.read_tasks, pipeline, run_id)
        except AirflowHTTPError as refused:
            if refused.status == NOT_FOUND:
                return None
            raise
        messages = tuple(tasks.task_message(instance) for instance in tasks.in_start_order(instances))
        state = tasks.job_state(run.state.value, messages)
        start = tasks.first_start(messages)
        described = PipelineRun(
            state=state, tasks=messages, start_time=start.replace(tzinfo=UTC) if start else None, end_time=None
        )
        if state == jobs_pb2.JOB_STATE_SUCCESS:
            return replace(described, end_time=run.end_date)
        if state == jobs_pb2.JOB_STATE_FAILED:
            failed = tasks.first_failed(messages)
            failure = await self._reason(pipeline, run_id, failed) if failed else ""
            ended_by = "" if failure else await self._endings.ended_by(pipeline, run)
            return replace(described, end_time=run.end_date, failed_task=failed, failure=failure, ended_by=ended_by)
        if gone := await self._endings.pipeline_gone(pipeline):
            return replace(described, state=jobs_pb2.JOB_STATE_FAILED, gone=gone)
        return described

    async def _runnable(self, pipeline: str) -> DAGResponse:
        try:
            dag = await self._backend.call(requests.read_dag, pipeline)
        except AirflowHTTPError as refused:
            if refused.status != NOT_FOUND:
                raise
            errors = await self._backend.call(requests.read_import_errors)
            found = broken_file(pipeline, errors)
            raise (_broken(pipeline, found) if found else _not_found(pipeline, errors)) from None
        if dag.has_import_errors or dag.is_stale:
            errors = await self._backend.call(requests.read_import_errors)
            same_file = [error for error in errors if error.filename in (dag.relative_fileloc, dag.fileloc)]
            if same_file or dag.has_import_errors:
                raise _broken(pipeline, same_file[0] if same_file else None)
            raise _not_found(pipeline, errors)
        return dag

    async def _start(self, pipeline: str, run_id: str, conf: dict[str, Any]) -> None:
        try:
            await self._backend.call(requests.trigger, pipeline, run_id, conf)
        except AirflowHTTPError as refused:
            if refused.status == CONFLICT:
                run = await self._backend.call(requests.read_run, pipeline, run_id)
                if run.conf == conf:
                    return
                raise _other_conf(run_id) from None
            if refused.status == NOT_FOUND:
                raise _not_found(pipeline, []) from None
            parameter = parameters.refused_parameter(refused.detail) if refused.status == BAD_REQUEST else ""
            if parameter:
                raise parameters.refusal(parameter, conf, await self._declared(pipeline)) from None
            raise

    async def _declared(self, pipeline: str) -> Mapping[str, Any]:
        """The parameters that a pipeline declares; none if there is no such pipeline, which its start reports."""
        try:
            details = await self._backend.call(requests.read_details, pipeline)
        except AirflowHTTPError as refused:
            if refused.status != NOT_FOUND:
                raise
            return {}
        return details.params or {}

    async def _reason(self, pipeline: str, run_id: str, task: Task) -> str:
        key = (pipeline, run_id, task.task_id, task.map_index, task.try_number)
        if key not in self._reasons:
            try:
                entries = await self._backend.call(requests.read_log, pipeline, run_id, task)
            except PlatformError as error:
                # The reason is worth having, not worth failing for: which task failed is known without it.
                log.warning("task_log_unreadable", pipeline=pipeline, run_id=run_id, task_id=task.task_id, error=error.message)
                return ""
            self._reasons[key] = reason_in_log(entries)
            if len(self._reasons) > REASONS_KEPT:
                self._reasons.popitem(last=False)
        return self._reasons[key]


def _not_found(pipeline: str, errors: list[ImportErrorResponse]) -> PlatformError:
    remedy = "Check the name. Airflow takes up to a minute to notice a new file."
    if errors:
        broken = "; ".join(f"{error.filename} ({reason_in_traceback(error.stack_trace)})" for error in errors[:3])
        remedy += f" Some files fail to import, and perhaps it is in one of them: {broken}."
    return PlatformError(
        errors_pb2.ERROR_REASON_PIPELINE_NOT_FOUND,
        f"There is no pipeline (Airflow DAG) '{pipeline}'.",
        remedy=remedy,
        resource=("pipeline", pipeline),
    )


def _broken(pipeline: str, error: ImportErrorResponse | None) -> PlatformError:
    where = (
        f"its file {error.filename} fails to import: {reason_in_traceback(error.stack_trace)}"
        if error
        else "its file fails to import"
    )
    return PlatformError(
        errors_pb2.ERROR_REASON_PIPELINE_BROKEN,
        f"The pipeline '{pipeline}' cannot run, because {where}.",
        remedy="Correct the file; Airflow notices within a minute.",
        resource=("pipeline", pipeline),
        metadata={"file": error.filename} if error else None,
    )


def _other_conf(run_id: str) -> PlatformError:
    return request_id_reused(
        "This request_id has already started a run with other parameters.",
        remedy="Use a new request_id for a new run.",
        resource=("job", run_id),
    )
