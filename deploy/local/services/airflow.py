"""Airflow: the pipelines, with DAGs from several folders. Its parts are one service; airflow_parts.py runs them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from deploy.local import airflow_parts, probes
from deploy.local.config import HOST
from deploy.local.credentials import AIRFLOW_USER
from deploy.local.layout import Layout, Service, program
from deploy.local.state import write_private

LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


def service(layout: Layout) -> Service:
    """Describe it."""
    port = layout.addresses.ports["airflow"]
    return Service(
        name="airflow",
        # Without the script's folder on the path, whose modules have names that others may want.
        command=(sys.executable, "-P", str(Path(airflow_parts.__file__)), program("airflow")),
        probe=lambda: probes.airflow(port),
        # Where paths in the feature store's configuration are relative to, for the tasks that read it.
        folder=layout.feature_store.parent,
        environment=lambda: {**layout.environment(), **_settings(layout)},
    )


def _settings(layout: Layout) -> dict[str, str]:
    home = layout.state.folder("airflow")
    passwords = home / "passwords.json"
    write_private(passwords, json.dumps({AIRFLOW_USER: layout.credentials.airflow_password}))
    url = layout.addresses.url("airflow")
    sections = {
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{AIRFLOW_USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
        "API__HOST": HOST,
        "API__PORT": str(layout.addresses.ports["airflow"]),
        "API__BASE_URL": url,
        # A busy machine answers a task's first request late, and a task that gets no answer counts as failed.
        "WORKERS__EXECUTION_API_TIMEOUT": "60",
        # Every watched job asks once a second; the log is for what matters.
        "LOGGING__NAMESPACE_LEVELS": "http.access=WARNING",
        # A new or changed DAG is seen within seconds, not minutes.
        "DAG_PROCESSOR__REFRESH_INTERVAL": "3",
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
        "DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles(layout.dag_folders)),
    }
    return {"AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": value for name, value in sections.items()}}


def bundles(folders: Iterable[Path]) -> list[dict[str, object]]:
    """Describe DAG folders as Airflow wants them, each under a name of its own that tells where it is."""
    described: dict[str, dict[str, object]] = {}
    for folder in dict.fromkeys(folders):
        stem = "-".join(re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in folder.parts[-2:])
        name, again = stem, 2
        while name in described:
            name, again = f"{stem}-{again}", again + 1
        described[name] = {"name": name, "classpath": LOCAL_BUNDLE, "kwargs": {"path": str(folder)}}
    return list(described.values())
