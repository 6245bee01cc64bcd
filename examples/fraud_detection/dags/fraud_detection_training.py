"""Trains the fraud model: transactions, joined with what was known of their users at the time, into an ONNX model in MLflow.

An ordinary Airflow DAG. It finds MLflow and Feast through MLFLOW_TRACKING_URI and FEAST_FS_YAML_FILE_PATH, and its data through
Feast's registry. All tasks of a job write to one MLflow run.
"""

from __future__ import annotations

import os
import pickle
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import chain, dag, get_current_context, task

if TYPE_CHECKING:
    import pandas as pd
    from feast import FileSource
    from onnx import ModelProto
    from sklearn.pipeline import Pipeline

DATA_SOURCE = "transactions"
FEATURE_SERVICE = "fraud_detection_v1"
LABEL = "is_fraud"
REQUEST_COLUMNS = ["amount", "merchant_category", "is_international", "hour_of_day"]
CATEGORICAL = ["merchant_category"]
MAX_ROWS = 20_000  # Keeps the point-in-time join and the training within seconds.
HOLD_OUT = 0.25  # The newest quarter.
CURVE_POINTS = 10

DEFAULTS = {
    "experiment_name": "fraud_detection",
    "data_start_date": "",
    "data_end_date": "",
    "n_estimators": 50,
    "max_depth": 3,
    "learning_rate": 0.1,
}


@dataclass(frozen=True)
class Config:
    """What the job was asked for, checked. A date that is None does not bound the data."""

    experiment_name: str
    data_start_date: date | None
    data_end_date: date | None
    n_estimators: int
    max_depth: int
    learning_rate: float

    @classmethod
    def parse(cls, conf: Mapping[str, Any]) -> Config:
        """Read the job's configuration; what it leaves out takes its default.

        Raises:
            ValueError: naming the entry that makes no sense.
        """
        given = {**DEFAULTS, **{name: value for name, value in conf.items() if value is not None}}
        config = cls(
            experiment_name=str(given["experiment_name"]),
            data_start_date=_day("data_start_date", given["data_start_date"]),
            data_end_date=_day("data_end_date", given["data_end_date"]),
            n_estimators=int(_number("n_estimators", given["n_estimators"], 1, 1000, whole=True)),
            max_depth=int(_number("max_depth", given["max_depth"], 1, 16, whole=True)),
            learning_rate=_number("learning_rate", given["learning_rate"], 0.0001, 1),
        )
        if (config.data_start_date or date.min) > (config.data_end_date or date.max):
            raise ValueError(f"data_start_date {config.data_start_date} lies after data_end_date {config.data_end_date}")
        return config


def _day(name: str, value: object) -> date | None:
    if value == "":
        return None
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{name} must be a date written as YYYY-MM-DD, not {value!r}") from None


def _number(name: str, value: object, least: float, most: float, *, whole: bool = False) -> float:
    kind = "a whole number" if whole else "a number"
    try:
        number = float("nan") if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = float("nan")
    if not least <= number <= most or (whole and number != int(number)):
        raise ValueError(f"{name} must be {kind} from {least} to {most}, not {value!r}")
    return number


def _config() -> Config:
    """What the job that runs was asked for."""
    return Config.parse(get_current_context()["params"])


def _folder() -> Path:
    """Where the tasks of the job that runs hand on their data."""
    job = re.sub(r"[^A-Za-z0-9_-]", "_", get_current_context()["run_id"])
    folder = Path(os.environ.get("AIRFLOW_HOME", tempfile.gettempdir())) / "work" / "fraud_detection_training" / job
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@task
def load_data() -> None:
    """Take the transactions of the days asked for; of very many, a fixed random sample."""
    config, folder = _config(), _folder()
    import pandas as pd
    from feast import FeatureStore

    source = cast("FileSource", FeatureStore().get_data_source(DATA_SOURCE))
    chosen = within(pd.read_parquet(source.path), config.data_start_date, config.data_end_date)
    if len(chosen) > MAX_ROWS:
        chosen = chosen.sample(MAX_ROWS, random_state=0)
    chosen.sort_values("event_timestamp").to_parquet(folder / "transactions.parquet", index=False)


def within(transactions: pd.DataFrame, first_day: date | None, last_day: date | None) -> pd.DataFrame:
    """The transactions of some days, both ends included, in UTC.

    Raises:
        ValueError: if there are none.
    """
    days = transactions["event_timestamp"].dt.date
    first, last = first_day or days.min(), last_day or days.max()
    chosen = transactions[(days >= first) & (days <= last)]
    if chosen.empty:
        raise ValueError(f"no transactions between {first} and {last}; the data run from {days.min()} to {days.max()}")
    return chosen


@task
def build_features() -> str:
    """Join each transaction with its user's features as of that time, in a new MLflow run; return the run's id."""
    config, folder = _config(), _folder()
    import mlflow
    import pandas as pd
    from feast import FeatureStore

    transactions = pd.read_parquet(folder / "transactions.parquet")
    mlflow.set_experiment(config.experiment_name)
    with mlflow.start_run() as run:
        mlflow.log_params(vars(config))
        mlflow.log_metrics({"rows": len(transactions), "fraud_rate": transactions[LABEL].mean()})
        store = FeatureStore()
        # Within a run, Feast tags it with the features that it hands out: that is how predictions know what to look up.
        joined = store.get_historical_features(transactions, store.get_feature_service(FEATURE_SERVICE)).to_df()
        features = [name for name in joined.columns if name not in transactions.columns]
        complete = joined.dropna(subset=features).sort_values("event_timestamp")
        complete[[*REQUEST_COLUMNS, *features, LABEL]].to_parquet(folder / "training.parquet", index=False)
        mlflow.log_metrics({"rows_joined": len(complete), "features": len(features)})
        return str(run.info.run_id)


@task
def train_model(mlflow_run: str) -> None:
    """Fit the model on all but the newest quarter, logging how its loss falls from tree to tree."""
    config, folder = _config(), _folder()
    import mlflow
    from sklearn.metrics import log_loss, roc_auc_score

    training, _ = split(folder)
    with mlflow.start_run(run_id=mlflow_run):
        labels = training.pop(LABEL)
        model = pipeline(config, numeric=[name for name in training.columns if name not in CATEGORICAL])
        model.fit(training, labels)
        step = max(1, config.n_estimators // CURVE_POINTS)
        for trees, loss in enumerate(model[-1].train_score_, start=1):
            if trees % step == 0 or trees == config.n_estimators:
                mlflow.log_metric("training_loss", loss, step=trees)
        probabilities = model.predict_proba(training)[:, 1]
        mlflow.log_metrics(
            {"train_log_loss": log_loss(labels, probabilities), "train_roc_auc": roc_auc_score(labels, probabilities)}
        )
    (folder / "model.pickle").write_bytes(pickle.dumps(model))


def split(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The older rows to train on and the newer ones to test on.

    Raises:
        ValueError: if either part holds frauds only, or none.
    """
    import pandas as pd

    rows = pd.read_parquet(folder / "training.parquet")
    edge = int(len(rows) * (1 - HOLD_OUT))
    older, newer = rows.iloc[:edge].reset_index(drop=True), rows.iloc[edge:].reset_index(drop=True)
    for name, part in (("older", older), ("newer", newer)):
        if part[LABEL].nunique() < 2:
            raise ValueError(f"the {name} {len(part)} rows do not hold both frauds and honest payments: take more days")
    return older, newer


def pipeline(config: Config, numeric: list[str]) -> Pipeline:
    """One-hot categories and plain numbers into gradient boosting; a category never seen counts as none."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder

    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = ColumnTransformer([("category", one_hot, CATEGORICAL), ("number", "passthrough", numeric)])
    boosting = GradientBoostingClassifier(
        n_estimators=config.n_estimators,
        max_depth=config.max_depth,
        learning_rate=config.learning_rate,
        subsample=0.8,
        random_state=0,
    )
    return Pipeline([("columns", columns), ("boosting", boosting)])


@task
def evaluate_model(mlflow_run: str) -> None:
    """Judge the model on the newest quarter, and log it as ONNX with its signature."""
    folder = _folder()
    import mlflow
    import numpy as np
    from mlflow.models import infer_signature
    from sklearn import metrics

    model = pickle.loads((folder / "model.pickle").read_bytes())
    _, held_out = split(folder)
    labels = held_out.pop(LABEL)
    with mlflow.start_run(run_id=mlflow_run):
        probabilities = model.predict_proba(held_out)[:, 1]
        said = probabilities > 0.5
        mlflow.log_metrics(
            {
                "accuracy": metrics.accuracy_score(labels, said),
                "roc_auc": metrics.roc_auc_score(labels, probabilities),
                "average_precision": metrics.average_precision_score(labels, probabilities),
                "precision": metrics.precision_score(labels, said, zero_division=0),
                "recall": metrics.recall_score(labels, said, zero_division=0),
                "rows_held_out": len(held_out),
            }
        )
        exported = to_onnx(model, held_out)
        outputs = run_onnx(exported, held_out)
        mlflow.log_metric("onnx_max_difference", float(np.abs(outputs["probabilities"][:, 1] - probabilities).max()))
        mlflow.onnx.log_model(
            exported,
            name="model",
            signature=infer_signature(held_out, outputs),
            input_example=held_out.head(3),
            pip_requirements=mlflow.onnx.get_default_pip_requirements(),
        )


def to_onnx(model: Pipeline, frame: pd.DataFrame) -> ModelProto:
    """The model in ONNX: one input a column, outputs `label` and `probabilities`."""
    from skl2onnx import to_onnx as convert
    from skl2onnx.common.data_types import BooleanTensorType, FloatTensorType, Int64TensorType, StringTensorType

    kinds = {"b": BooleanTensorType, "i": Int64TensorType, "f": FloatTensorType, "O": StringTensorType}
    inputs = [(name, kinds[frame[name].dtype.kind]([None, 1])) for name in frame.columns]
    exported = convert(model, initial_types=inputs, options={id(model): {"zipmap": False}}, name="fraud_detection")
    return cast("ModelProto", exported)


def run_onnx(exported: ModelProto, frame: pd.DataFrame) -> dict[str, Any]:
    """What the exported model says, by output."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.SerializeToString(), providers=["CPUExecutionProvider"])
    narrow = frame.astype(dict.fromkeys(frame.select_dtypes("float64").columns, np.float32))
    inputs = {name: narrow[[name]].to_numpy() for name in narrow.columns}
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs), strict=True))


@task
def clean_up() -> None:
    """Remove what the tasks handed on, however the job went."""
    shutil.rmtree(_folder(), ignore_errors=True)


@dag(schedule=None, catchup=False, params=DEFAULTS, tags=["training"], doc_md=__doc__)
def fraud_detection_training() -> None:
    """From transactions to a model."""
    features = build_features()
    run = cast("str", features)  # A task's result stands for what it will return.
    chain(load_data(), features, train_model(run), evaluate_model(run), clean_up().as_teardown())


fraud_detection_training()
