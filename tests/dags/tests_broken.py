"""A pipeline that cannot be imported."""

from airflow.sdk import dag

import a_module_that_nobody_wrote  # noqa: F401


@dag(dag_id="tests_broken", schedule=None, catchup=False)
def broken() -> None:
    """Never seen."""


broken()
