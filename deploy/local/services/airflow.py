"""Airflow: the pipelines, with DAGs from several folders. Each of its parts is a service, so that one is started again alone.

`airflow standalone` would do, but for this: it ends with the first part that ends, and its scheduler and its triggerer each serve
log files on every interface of the machine. What reads a task's log here reads the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from deploy.local import probes
from deploy.local.config import HOST
from deploy.local.credentials import AIRFLOW_USER
from deploy.local.layout import Layout, Service, program
from deploy.local.services import postgres
from deploy.local.state import write_private

LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


# Each part with its options, and with what the page about health calls it.
PARTS: dict[str, tuple[Sequence[str], str]] = {
    "scheduler": (("--skip-serve-logs",), "scheduler"),
    "triggerer": (("--skip-serve-logs",), "triggerer"),
    "dag-processor": ((), "dag_processor"),
}


def services(layout: Layout) -> list[Service]:
    """Describe the API server, which the service is known by, and the other parts."""
    port = layout.addresses.ports["airflow"]

    def part(name: str, command: str, options: Sequence[str], healthy: str, address: str = "") -> Service:
        return Service(
            name=name,
            command=(program("airflow"), command, *options),
            probe=partial(probes.airflow, port, healthy),
            address=address,
            # Where paths in the feature store's configuration are relative to, for the tasks that read it.
            folder=layout.feature_store.parent,
            environment=lambda: environment(layout),
            needs=("airflow-db",),
        )

    api = part("airflow", "api-server", (), "metadatabase", layout.addresses.address("airflow"))
    others = (part(f"airflow-{name}", name, options, healthy) for name, (options, healthy) in PARTS.items())
    return [api, *others]


def migration() -> tuple[str, ...]:
    """Give the command that creates Airflow's tables, or brings them up to date."""
    return (program("airflow"), "db", "migrate")


def migrated(layout: Layout) -> Path:
    """Give the file that says which version the tables belong to: beside the data, so that it goes with them."""
    return layout.state.path / "postgres" / f"airflow-{version('apache-airflow')}.migrated"


def environment(layout: Layout) -> dict[str, str]:
    """Give the environment of every part and of Airflow's commands."""
    return {**layout.environment(), **_settings(layout)}


def _settings(layout: Layout) -> dict[str, str]:
    home = layout.state.folder("airflow")
    passwords = home / "passwords.json"
    write_private(passwords, json.dumps({AIRFLOW_USER: layout.credentials.airflow_password}))
    url = layout.addresses.url("airflow")
    sections = {
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__LOAD_EXAMPLES": "False",
        "DATABASE__SQL_ALCHEMY_CONN": postgres.url(layout, "airflow"),
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": postgres.url(layout, "airflow"),
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
