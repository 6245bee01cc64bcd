"""Finds the runs of a job: in the job's own experiment first, which is looked up once, and seldom in all the others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from ml_platform.v1 import experiments_pb2
from ml_platform_server.backends.mlflow import messages, searches
from ml_platform_server.backends.mlflow.links import Links

if TYPE_CHECKING:
    from mlflow import MlflowClient

LIST_AGE = 30.0
"""Seconds for which the list of all experiments is good enough. A watched job is looked at every second."""

FRESH_AGE = 2.0
"""The same where every run is wanted, of an experiment too that the job has just made."""

JOBS_KEPT = 10_000


class JobRuns:
    """Remembers where to search. Its methods run in the threads of MLflow's pool.

    Args:
        links: where MLflow shows the runs.
    """

    def __init__(self, *, links: Links) -> None:
        self._links = links
        self._listing = threading.Lock()
        # By job, because a name may go to another experiment.
        self._own: dict[str, str] = {}
        self._all: list[str] = []
        self._read_at = float("-inf")

    def of(self, client: MlflowClient, job_id: str, experiment_name: str, *, everywhere: bool) -> list[experiments_pb2.Run]:
        """The runs of a job, newest first; `everywhere` searches the other experiments even if the job's own has some."""
        own = self._own_experiment(client, job_id, experiment_name)
        found = searches.runs_of_job(client, job_id, [own] if own else [])
        if everywhere or not found:
            others = self._experiments(client, FRESH_AGE if everywhere else LIST_AGE)
            found = searches.runs_of_job(client, job_id, [*others, own] if own and own not in others else others)
        return [messages.run_message(run, self._links) for run in found]

    def _own_experiment(self, client: MlflowClient, job_id: str, name: str) -> str:
        known = self._own.get(job_id, "")
        if known or not name:
            return known
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return ""
        self._own[job_id] = experiment.experiment_id
        while len(self._own) > JOBS_KEPT:
            self._own.pop(next(iter(self._own)), None)
        return str(experiment.experiment_id)

    def _experiments(self, client: MlflowClient, age: float) -> list[str]:
        """The ids of all active experiments, as they were so many seconds ago at most."""
        with self._listing:  # Whoever comes while another reads the list waits for it.
            if time.monotonic() - self._read_at > age:
                self._read_at = time.monotonic()
                self._all = [experiment.experiment_id for experiment in searches.active_experiments(client)]
            return self._all
