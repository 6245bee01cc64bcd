"""A pipeline whose second task raises, and whose third therefore never runs."""

from __future__ import annotations

from airflow.sdk import dag, task


@dag(dag_id="tests_raising", schedule=None, catchup=False)
def raising() -> None:
    """Three tasks in a row; the second fails."""

    @task
    def prepare() -> None:
        """Do nothing, well."""

    @task(retries=0)
    def explode() -> None:
        """Fail in a way that the caller should read about."""
        raise ValueError("the sky is not blue enough")

    @task
    def never() -> None:
        """Never run."""

    prepare() >> explode() >> never()


raising()
