"""A pipeline with a declared parameter, a task that needs two tries, and tasks that are mapped over a list."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, get_current_context, task


@dag(dag_id="tests_mapped", schedule=None, catchup=False, params={"count": Param(2, type="integer", minimum=1)})
def mapped() -> None:
    """List, then double each, then add up."""

    @task(retries=1, retry_delay=timedelta(seconds=1))
    def numbers() -> list[int]:
        """Fail the first time; then list as many numbers as the run asks for."""
        context = get_current_context()
        if context["ti"].try_number == 1:
            raise RuntimeError("not at the first try")
        return list(range(context["params"]["count"]))

    @task
    def double(number: int) -> int:
        """Double one number."""
        return 2 * number

    @task
    def total(doubled: list[int]) -> int:
        """Add them all up."""
        return sum(doubled)

    total(double.expand(number=numbers()))  # type: ignore[arg-type]  # a promise of the list until it runs


mapped()
