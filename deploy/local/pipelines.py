"""Waits until Airflow has read the DAG folders, so that the first job finds its pipeline, and says which DAGs are broken."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx

from deploy.local.credentials import AIRFLOW_USER
from deploy.local.layout import Layout
from deploy.local.progress import Progress

PATIENCE = 60.0  # Seconds; a file that only looks like a DAG is never told as one, and must not hold up the rest.
POLL = 0.5
PAGE = 100  # As many as Airflow gives at once.


class Pipelines:
    """What Airflow knows about the DAG folders of a stack."""

    def __init__(self, layout: Layout, *, progress: Progress, cancelled: threading.Event) -> None:
        self._layout = layout
        self._progress = progress
        self._cancelled = cancelled

    def wait(self) -> None:
        """Wait until every file that looks like a DAG has been read, well or badly."""
        wanted = dag_files(self._layout.dag_folders)
        deadline = time.monotonic() + PATIENCE
        # Nothing in the environment, such as a proxy, has a say in a talk on this machine.
        with httpx.Client(base_url=self._layout.addresses.url("airflow"), trust_env=False, timeout=10.0) as client:
            self._log_in(client)
            while True:
                broken = {each["filename"]: each["stack_trace"] for each in _all(client, "importErrors", "import_errors")}
                read = {each["fileloc"] for each in _all(client, "dags", "dags")}
                unread = [path for path in wanted if not any(str(path).endswith(name) for name in (*read, *broken))]
                if not unread or time.monotonic() > deadline or self._cancelled.wait(POLL):
                    break
        for name, trace in broken.items():
            self._progress.say(f"  The DAG file {name} is broken: {trace.strip().splitlines()[-1]}")

    def _log_in(self, client: httpx.Client) -> None:
        password = self._layout.credentials.airflow_password
        answer = client.post("/auth/token", json={"username": AIRFLOW_USER, "password": password}).raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"


def _all(client: httpx.Client, resource: str, field: str) -> list[dict[str, Any]]:
    """Read every page of a list."""
    found: list[dict[str, Any]] = []
    while True:
        params = {"limit": PAGE, "offset": len(found)}
        answer = client.get(f"/api/v2/{resource}", params=params).raise_for_status().json()
        found += answer[field]
        if not answer[field] or len(found) >= answer["total_entries"]:
            return found


def dag_files(folders: Iterable[Path]) -> Sequence[Path]:
    """Find the files that Airflow takes for DAGs: it looks for these two words before it reads one."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    return [path for path in paths if all(word in path.read_bytes().lower() for word in (b"dag", b"airflow"))]
