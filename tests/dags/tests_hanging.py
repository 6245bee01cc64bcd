"""Pipelines whose task does not end by itself within a test: one without a time limit, one with."""

from __future__ import annotations

import time
from datetime import timedelta

from airflow.sdk import dag, task

LONG = 600.0


@task
def hang() -> None:
    """Wait to be ended from outside."""
    time.sleep(LONG)


@dag(dag_id="tests_hanging", schedule=None, catchup=False)
def hanging() -> None:
    """No limit."""
    hang()


@dag(dag_id="tests_limited", schedule=None, catchup=False, dagrun_timeout=timedelta(seconds=5))
def limited() -> None:
    """A limit that is soon reached."""
    hang()


hanging()
limited()
