"""The requests that the platform makes of Airflow, each a blocking function of (client, timeout, ...) for AirflowBackend.call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ml_platform.v1.jobs_pb2 import Task

if TYPE_CHECKING:
    from airflow_client.client import (
        ApiClient,
        DAGDetailsResponse,
        DAGResponse,
        DAGRunResponse,
        EventLogResponse,
        ImportErrorResponse,
        TaskInstanceResponse,
    )

# Airflow's client takes over a second to load, so each function imports what it needs.
# ruff: noqa: PLC0415

PAGE = 100
"""As many entries as Airflow gives in one answer by default."""

MOST_TASKS = 1000
"""Task instances that are read of one run, however many there are."""

MOST_LOG_PAGES = 20


def read_dag(client: ApiClient, timeout: float, dag_id: str) -> DAGResponse:
    """One DAG."""
    from airflow_client.client.api.dag_api import DAGApi

    return DAGApi(client).get_dag(dag_id, _request_timeout=timeout)


def read_details(client: ApiClient, timeout: float, dag_id: str) -> DAGDetailsResponse:
    """One DAG with its declared parameters and its time limit."""
    from airflow_client.client.api.dag_api import DAGApi

    return DAGApi(client).get_dag_details(dag_id, _request_timeout=timeout)


def unpause(client: ApiClient, timeout: float, dag_id: str) -> None:
    """Let a DAG run; new ones are paused."""
    from airflow_client.client import DAGPatchBody
    from airflow_client.client.api.dag_api import DAGApi

    DAGApi(client).patch_dag(dag_id, DAGPatchBody(is_paused=False), update_mask=["is_paused"], _request_timeout=timeout)


def trigger(client: ApiClient, timeout: float, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
    """Start a run under an id of ours. A run without a logical date may be started as often as one likes."""
    from airflow_client.client import TriggerDAGRunPostBody
    from airflow_client.client.api.dag_run_api import DagRunApi

    body = TriggerDAGRunPostBody(dag_run_id=run_id, logical_date=None, conf=conf)
    DagRunApi(client).trigger_dag_run(dag_id, body, _request_timeout=timeout)


def read_run(client: ApiClient, timeout: float, dag_id: str, run_id: str) -> DAGRunResponse:
    """One run."""
    from airflow_client.client.api.dag_run_api import DagRunApi

    return DagRunApi(client).get_dag_run(dag_id, run_id, _request_timeout=timeout)


def end_run(client: ApiClient, timeout: float, dag_id: str, run_id: str, note: str) -> None:
    """End a run as failed, its running tasks too, and write down why."""
    from airflow_client.client import DAGRunPatchBody
    from airflow_client.client.api.dag_run_api import DagRunApi
    from airflow_client.client.models.dag_run_mutable_states import DagRunMutableStates

    body = DAGRunPatchBody(state=DagRunMutableStates("failed"), note=note)
    DagRunApi(client).patch_dag_run(dag_id, run_id, body, update_mask=["state", "note"], _request_timeout=timeout)


def read_changes_by_hand(client: ApiClient, timeout: float, dag_id: str, run_id: str) -> list[EventLogResponse]:
    """What people and programs did to a run through Airflow's API and pages, the newest first."""
    from airflow_client.client.api.event_log_api import EventLogApi

    page = EventLogApi(client).get_event_logs(
        dag_id=dag_id,
        run_id=run_id,
        included_events=["patch_dag_run", "bulk_dag_runs", "patch_task_instance", "bulk_task_instances"],
        order_by=["-when"],
        limit=PAGE,
        _request_timeout=timeout,
    )
    return list(page.event_logs)


def read_tasks(client: ApiClient, timeout: float, dag_id: str, run_id: str) -> list[TaskInstanceResponse]:
    """The task instances of a run, in Airflow's order."""
    from airflow_client.client.api.task_instance_api import TaskInstanceApi

    found: list[TaskInstanceResponse] = []
    while len(found) < MOST_TASKS:
        page = TaskInstanceApi(client).get_task_instances(
            dag_id, run_id, limit=PAGE, offset=len(found), order_by=["id"], _request_timeout=timeout
        )
        found += page.task_instances
        if not page.task_instances or len(page.task_instances) < PAGE:
            break
    return found


def read_import_errors(client: ApiClient, timeout: float) -> list[ImportErrorResponse]:
    """The files that Airflow could not import, the newest failures first."""
    from airflow_client.client.api.import_error_api import ImportErrorApi

    page = ImportErrorApi(client).get_import_errors(limit=PAGE, order_by=["-timestamp"], _request_timeout=timeout)
    return list(page.import_errors)


def read_log(client: ApiClient, timeout: float, dag_id: str, run_id: str, task: Task) -> list[Any]:
    """The log of a task's newest attempt, as Airflow's JSON entries.

    The client's own classes would drop what a log entry holds beside its text, so the answer is parsed here.
    """
    from airflow_client.client.api.task_instance_api import TaskInstanceApi

    entries: list[Any] = []
    token: str | None = None
    for _ in range(MOST_LOG_PAGES):
        answer = TaskInstanceApi(client).get_log_without_preload_content(
            dag_id,
            run_id,
            task.task_id,
            task.try_number,
            map_index=task.map_index,
            token=token,
            accept="application/json",
            _request_timeout=timeout,
        )
        page = json.loads(answer.data)
        content = page.get("content") or []
        entries += content if isinstance(content, list) else [content]
        token = page.get("continuation_token")
        if not token or not content:
            break
    return entries
