"""What must be ready before the server starts: the feature store's configuration, the database, the first key, the example."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from deploy.local import credentials
from deploy.local.config import ROOT
from deploy.local.launch import Step
from deploy.local.layout import Layout, program
from deploy.local.logs import blame
from deploy.local.pipelines import Pipelines
from deploy.local.processes import marks
from deploy.local.progress import Progress
from deploy.local.services import airflow, postgres, server
from deploy.local.state import write_private

TEMPLATE = ROOT / "deploy" / "feast" / "feature_store.yaml"
ADMIN = "admin"
OUR_DAGS = ROOT / "deploy" / "airflow" / "dags"
EXAMPLES = ROOT / "examples"


def dag_folders(chosen: Sequence[Path]) -> tuple[Path, ...]:
    """Give the platform's DAG folder, those of the examples, and those that a person added."""
    return (OUR_DAGS, *sorted(EXAMPLES.glob("*/dags")), *chosen)


def steps(layout: Layout, *, timeout: float, progress: Progress, cancelled: threading.Event) -> list[Step]:
    """Give the steps of a start that are no services. The example is prepared in the stack's own Feast project alone."""
    prepare = Preparation(layout, timeout=timeout, cancelled=cancelled)
    pipelines = Pipelines(layout, progress=progress, cancelled=cancelled)
    found = [
        *database_steps(prepare),
        Step("airflow-db", prepare.airflow_tables, needs=("databases",), tells="Airflow's tables"),
        Step(
            "pipelines",
            pipelines.wait,
            needs=("airflow", "airflow-dag-processor"),
            tells=f"from {len(layout.dag_folders)} folders",
        ),
    ]
    if layout.feature_store == layout.state.feature_store:
        write_feature_store(layout)
        found.append(Step("example", prepare.example, needs=("valkey",), tells="its data, features and online values"))
    return found


def database_steps(prepare: Preparation) -> list[Step]:
    """Give the steps that make PostgreSQL's data and the platform's own store."""
    return [
        Step("cluster", prepare.cluster, tells="PostgreSQL's data"),
        Step("databases", prepare.databases, needs=("postgres",), tells=", ".join(postgres.DATABASES)),
        Step("store", prepare.store, needs=("databases",), tells="the platform's tables and its first key"),
    ]


def write_feature_store(layout: Layout) -> None:
    """Fill in Feast's configuration for this stack."""
    target = layout.feature_store
    content = Template(TEMPLATE.read_text()).substitute(
        FOLDER=target.parent, VALKEY=layout.addresses.address("valkey"), MLFLOW=layout.addresses.url("mlflow")
    )
    write_private(target, content)


class Preparation:
    """One-off commands that each run to their end, in the environment of the services they prepare."""

    def __init__(self, layout: Layout, *, timeout: float, cancelled: threading.Event) -> None:
        self._layout = layout
        self._timeout = timeout
        self._cancelled = cancelled

    def cluster(self) -> None:
        """Make PostgreSQL's data once."""
        layout = self._layout
        postgres.write_password(layout)
        if postgres.data(layout).exists():
            return
        self._run("cluster", postgres.initialization(layout), layout.environment())
        if self._cancelled.is_set():
            return
        # What belongs to the data of before does not belong to these.
        for migrated in layout.state.folder("postgres").glob("*.migrated"):
            migrated.unlink()
        layout.credentials.api_key = ""
        credentials.save(layout.state.credentials, layout.credentials)
        postgres.draft(layout).rename(postgres.data(layout))

    def databases(self) -> None:
        """Create the databases that are not there."""
        import psycopg  # noqa: PLC0415  # most commands need not pay for it

        with psycopg.connect(postgres.url(self._layout, "postgres").replace("+psycopg", "", 1), autocommit=True) as connection:
            present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in postgres.DATABASES:
                if name not in present:
                    connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    def airflow_tables(self) -> None:
        """Bring Airflow's tables up to date. Finding out whether they are takes seconds, so that is remembered."""
        done = airflow.migrated(self._layout)
        if done.exists():
            return
        self._run("airflow-db", airflow.migration(), airflow.environment(self._layout))
        if not self._cancelled.is_set():
            done.touch()

    def store(self) -> None:
        """Bring the platform's database up to date, and make the first API key once."""
        self._run("store", [program("ml-platform-server"), "db", "upgrade"], server.settings(self._layout))
        if not self._layout.credentials.api_key:
            self._layout.credentials.api_key = self.create_key(ADMIN, ["all"])
            credentials.save(self._layout.state.credentials, self._layout.credentials)

    def create_key(self, principal: str, scopes: Sequence[str], *, log: str = "store") -> str:
        """Make an API key with the server's own command."""
        options = ["--principal", principal, *(word for scope in scopes for word in ("--scope", scope))]
        return self._run(log, [program("ml-platform-server"), "keys", "create", *options], server.settings(self._layout))

    def example(self) -> None:
        """Generate the example's data, register its features and load them into the online store."""
        self._run("example", [sys.executable, "-m", "examples.fraud_detection.seed"], self._layout.environment())

    def _run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> str:
        """Run a command, its errors into its log, and give what it prints: that may be a secret and goes nowhere else."""
        with self._layout.state.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                env={**environment, **marks(self._layout.state, name)},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        output = self._output(process)
        if process.returncode and not self._cancelled.is_set():
            raise blame(self._layout.state, name, f"ended with status {process.returncode}")
        return output.strip()

    def _output(self, process: subprocess.Popen[str]) -> str:
        """Wait for a command's output; end the command when the time is up or nobody waits any more."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return process.communicate(timeout=0.3)[0]
            except subprocess.TimeoutExpired:
                if self._cancelled.is_set() or time.monotonic() > deadline:
                    process.kill()
