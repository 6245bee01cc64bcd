"""A pipeline that cannot be imported."""

import a_module_that_nobody_wrote  # noqa: F401  # what breaks it
from airflow.sdk import dag


@dag(dag_id="tests_broken", schedule=None, catchup=False)
def broken() -> None:
    """Never seen."""


broken()
