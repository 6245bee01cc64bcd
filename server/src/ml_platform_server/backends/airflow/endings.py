"""Why a run ended, or never will, where no task's failure shows it: its pipeline is gone, a time limit, or a person."""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

from ml_platform_server.backends.airflow import requests
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.errors import AirflowHTTPError
from ml_platform_server.errors import PlatformError

if TYPE_CHECKING:
    from airflow_client.client import DAGResponse, DAGRunResponse

log = structlog.get_logger(__name__)

NOT_FOUND = 404

CHECK_EVERY = 5.0
"""Seconds between two checks that the pipeline of a running job is still there."""

GONE_AFTER = 20.0
"""Seconds for which a pipeline has to be missing: a file that is being replaced is missing for a moment."""

LONG_GONE = timedelta(minutes=10)
"""A stale pipeline that Airflow has not parsed for so long is gone at the first check."""

ENDINGS_KEPT = 1000

NOTE = "ML Platform: "
"""How the notes begin that the platform writes on runs which it ends."""

_DURATION = TypeAdapter(timedelta)


class Endings:
    """Finds out what Airflow's API does not return with a run."""

    def __init__(self, *, backend: AirflowBackend) -> None:
        self._backend = backend
        self._checked: dict[str, tuple[float, str]] = {}
        self._missing_since: dict[str, float] = {}
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def pipeline_gone(self, pipeline: str) -> str:
        """Why a run of this pipeline never ends by itself, or nothing: Airflow schedules no task of a pipeline that it lost."""
        now = time.monotonic()
        checked, gone = self._checked.get(pipeline, (float("-inf"), ""))
        if now - checked < CHECK_EVERY:
            return gone
        dag = await self._dag(pipeline)
        if dag is not None and not dag.is_stale:
            self._missing_since.pop(pipeline, None)
            gone = ""
        else:
            since = self._missing_since.setdefault(pipeline, now)
            gone = _gone(dag) if now - since >= GONE_AFTER or _long_gone(dag) else ""
        self._checked[pipeline] = now, gone
        return gone

    async def ended_by(self, pipeline: str, run: DAGRunResponse) -> str:
        """Who or what ended a run as failed; empty if Airflow has no record of it."""
        key = (pipeline, run.dag_run_id)
        if key not in self._known:
            try:
                self._known[key] = await self._determine(pipeline, run)
            except PlatformError as error:
                # The reason is worth having, not worth failing for.
                log.warning("ending_unknown", pipeline=pipeline, run_id=run.dag_run_id, error=error.message)
                return ""
            if len(self._known) > ENDINGS_KEPT:
                self._known.popitem(last=False)
        return self._known[key]

    async def _determine(self, pipeline: str, run: DAGRunResponse) -> str:
        if run.note and run.note.startswith(NOTE):
            return run.note.removeprefix(NOTE)
        limit = await self._time_limit(pipeline)
        if limit and run.start_date and run.end_date and run.end_date - run.start_date >= limit:
            return f"it ran into its pipeline's time limit of {limit} (dagrun_timeout), the waiting for a place included"
        by_hand = await self._backend.call(requests.read_changes_by_hand, pipeline, run.dag_run_id)
        return f"{by_hand[0].owner or 'somebody'} did it by hand in Airflow" if by_hand else ""

    async def _time_limit(self, pipeline: str) -> timedelta | None:
        try:
            details = await self._backend.call(requests.read_details, pipeline)
            return _DURATION.validate_python(details.dag_run_timeout) if details.dag_run_timeout else None
        except (AirflowHTTPError, ValidationError):
            return None

    async def _dag(self, pipeline: str) -> DAGResponse | None:
        try:
            return await self._backend.call(requests.read_dag, pipeline)
        except AirflowHTTPError as refused:
            if refused.status != NOT_FOUND:
                raise
            return None


def _gone(dag: DAGResponse | None) -> str:
    if dag is not None and dag.has_import_errors:
        return "its file fails to import now, so Airflow starts none of the tasks that are left"
    return "its file was removed, so Airflow starts none of the tasks that are left"


def _long_gone(dag: DAGResponse | None) -> bool:
    return dag is not None and dag.last_parsed_time is not None and datetime.now(UTC) - dag.last_parsed_time > LONG_GONE
