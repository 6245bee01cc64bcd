"""Tags every MLflow run made inside an Airflow task with its job, task and try. MLflow finds this through its entry point."""

from __future__ import annotations

import os

# What Airflow puts into the environment while a task runs, and the tag it becomes.
TAGS = {
    "AIRFLOW_CTX_DAG_RUN_ID": "ml_platform.job_id",
    "AIRFLOW_CTX_DAG_ID": "ml_platform.pipeline",
    "AIRFLOW_CTX_TASK_ID": "ml_platform.task_id",
    "AIRFLOW_CTX_TRY_NUMBER": "ml_platform.try_number",
}


class JobRunContext:
    """What MLflow asks for tags whenever `mlflow.start_run` makes a run.

    It has the methods of MLflow's `RunContextProvider` without inheriting from it: MLflow asks for no more, and the client stays
    free of MLflow.
    """

    def in_context(self) -> bool:
        """Tell whether this process works for an Airflow task."""
        return "AIRFLOW_CTX_DAG_RUN_ID" in os.environ

    def tags(self) -> dict[str, str]:
        """Name the job, the pipeline, the task and the try that the run belongs to."""
        return {tag: os.environ[variable] for variable, tag in TAGS.items() if os.environ.get(variable)}
