"""A pipeline that makes one tracking run without a model and one whose model has no signature."""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task


@dag(dag_id="tests_two_runs", schedule=None, catchup=False)
def two_runs() -> None:
    """Log what a careless colleague would log."""

    @task
    def log() -> None:
        """Make the two runs in the experiment that the job names."""
        import mlflow
        from sklearn.dummy import DummyRegressor

        conf = get_current_context()["dag_run"].conf or {}
        mlflow.set_experiment(conf["experiment_name"])
        with mlflow.start_run(run_name="without-model"):
            mlflow.log_metric("rmse", 3.0)
        with mlflow.start_run(run_name="without-signature"):
            mlflow.log_metric("rmse", 2.0)
            model = DummyRegressor().fit([[0.0], [1.0]], [0.0, 1.0])
            mlflow.sklearn.log_model(model, name="model", serialization_format="cloudpickle")

    log()


two_runs()
