"""Trains a model that tells how many minutes a delivery takes, from facts of the order and features of two entities.

An ordinary Airflow DAG: it finds MLflow and Feast in its environment. The job's parameters say where the deliveries are. The
training table travels from task to task as an artifact of the run, so it stays with the model that came of it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import chain, dag, get_current_context, task

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

LABEL = "minutes"
FACTS = ["distance_km", "items", "vehicle", "is_raining"]
# Both entities have a rating and a number of deliveries, so the columns need their views' names: courier_stats__rating.
FEATURES = [
    "courier_stats:deliveries",
    "courier_stats:average_speed_kmh",
    "courier_stats:rating",
    "restaurant_stats:average_preparation_minutes",
    "restaurant_stats:rating",
]
TABLE = "training.parquet"
MAX_ROWS = 8000
HOLD_OUT = 0.25  # The newest quarter.
DEFAULTS = {
    "experiment_name": "delivery_times",
    "data_start_date": "",
    "data_end_date": "",
    "deliveries": "",
    "max_iter": 100,
    "learning_rate": 0.1,
}


def _conf() -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", get_current_context()["params"])


def chosen(deliveries: pd.DataFrame, first_day: str, last_day: str) -> pd.DataFrame:
    """The deliveries of some days, both ends included; of very many, a fixed random sample.

    Raises:
        ValueError: if there are none.
    """
    days = deliveries["event_timestamp"].dt.date
    first = date.fromisoformat(first_day) if first_day else days.min()
    last = date.fromisoformat(last_day) if last_day else days.max()
    rows = deliveries[(days >= first) & (days <= last)]
    if rows.empty:
        raise ValueError(f"no deliveries between {first} and {last}; the data run from {days.min()} to {days.max()}")
    return rows.sample(min(len(rows), MAX_ROWS), random_state=0)


@task
def build_features() -> str:
    """Join the deliveries with the features as of their times, in a new MLflow run; return the run's id."""
    conf = _conf()
    if not conf["deliveries"]:
        raise ValueError("deliveries is missing: give the path of the deliveries' Parquet file as a parameter")
    import mlflow
    import pandas as pd
    from feast import FeatureStore

    deliveries = chosen(pd.read_parquet(conf["deliveries"]), conf["data_start_date"], conf["data_end_date"])
    mlflow.set_experiment(conf["experiment_name"])
    with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params({name: conf[name] for name in DEFAULTS})
        joined = FeatureStore().get_historical_features(deliveries, FEATURES, full_feature_names=True).to_df()
        columns = [feature.replace(":", "__") for feature in FEATURES]
        table = joined.dropna(subset=columns).sort_values("event_timestamp")[[*FACTS, *columns, LABEL]]
        table.to_parquet(Path(folder) / TABLE, index=False)
        mlflow.log_artifact(str(Path(folder) / TABLE))
        mlflow.log_metrics({"rows": len(table), "mean_minutes": table[LABEL].mean()})
        return str(run.info.run_id)


@task
def train_model(mlflow_run: str) -> None:
    """Fit on the older rows, judge on the newest quarter, log the model."""
    conf = _conf()
    import mlflow
    import numpy as np
    import pandas as pd
    import sklearn
    from mlflow.models import infer_signature
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    with mlflow.start_run(run_id=mlflow_run):
        table = pd.read_parquet(mlflow.artifacts.download_artifacts(run_id=mlflow_run, artifact_path=TABLE))
        labels = table.pop(LABEL)
        edge = int(len(table) * (1 - HOLD_OUT))
        model = pipeline(int(conf["max_iter"]), float(conf["learning_rate"])).fit(table[:edge], labels[:edge])
        held_out, truth = table[edge:], labels[edge:]
        said = model.predict(held_out)
        boosting, encoded = model[-1], model[:-1].transform(held_out)
        for step, partial in enumerate(boosting.staged_predict(encoded), start=1):
            if step % 10 == 0:
                mlflow.log_metric("held_out_error_minutes", mean_absolute_error(truth, partial), step=step)
        mlflow.log_metrics(
            {
                "mae": mean_absolute_error(truth, said),
                "rmse": root_mean_squared_error(truth, said),
                "r2": r2_score(truth, said),
                "mae_of_the_mean": mean_absolute_error(truth, np.full(len(truth), labels[:edge].mean())),
            }
        )
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(held_out, said),
            input_example=held_out.head(3),
            serialization_format="cloudpickle",  # The default refuses tree models.
            pip_requirements=[f"scikit-learn=={sklearn.__version__}", f"pandas=={pd.__version__}", "cloudpickle"],
        )


def pipeline(max_iter: int, learning_rate: float) -> Pipeline:
    """Histogram gradient boosting, which does not convert to ONNX, over plain numbers and the vehicle's number."""
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    vehicle = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((vehicle, ["vehicle"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingRegressor(max_iter=max_iter, learning_rate=learning_rate, random_state=0))


@dag(schedule=None, catchup=False, params=DEFAULTS, tags=["training"], doc_md=__doc__)
def delivery_times_training() -> None:
    """From deliveries to a model."""
    run = build_features()
    chain(run, train_model(cast("str", run)))  # A task's result stands for what it will return.


delivery_times_training()
