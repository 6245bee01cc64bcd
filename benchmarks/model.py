"""The model that is asked: the example's fraud model with 100 trees, as ONNX and as scikit-learn, registered in MLflow.

Run as `python -m benchmarks.model folder` in the stack's environment. It trains with the example's own pipeline on the example's
data, registers the ONNX model twice (for swaps of versions) and the scikit-learn one once (for BentoML), and keeps in the folder
what the other servers and the load need: both models as files, and rows of inputs.
"""

# ruff: noqa: PLC0415  # The runner needs what is told here, not what it takes to make it.

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from onnx import ModelProto
    from sklearn.pipeline import Pipeline

ONNX_MODEL = "bench_fraud"
SKLEARN_MODEL = "bench_fraud_sklearn"
TREES = 100
TRAINING_ROWS = 20_000
SAMPLE_ROWS = 1024


@dataclass(frozen=True)
class Facts:
    """What was made. `rows` hold all that the model takes, `keys` the users they belong to; `sent` names what a caller sends.

    `columns` gives the kind of each thing that the model takes, as a letter of NumPy's.
    """

    folder: str
    versions: dict[str, list[int]]
    sent: list[str]
    columns: dict[str, str]
    keys: list[str]
    rows: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: Path) -> Facts:
        """Read what was made."""
        return cls(folder=str(folder), **json.loads((folder / "facts.json").read_text()))

    @classmethod
    def are_in(cls, folder: Path) -> bool:
        """Whether a folder holds them, and of the shape that this version of the benchmarks reads."""
        file = folder / "facts.json"
        names = {each.name for each in fields(cls)} - {"folder"}
        return file.exists() and json.loads(file.read_text()).keys() == names

    @property
    def onnx_file(self) -> Path:
        """The model as ONNX."""
        return Path(self.folder) / "model.onnx"

    @property
    def sklearn_folder(self) -> Path:
        """The model as MLflow keeps scikit-learn's, for servers that load it by themselves."""
        return Path(self.folder) / "sklearn"

    def requests(self) -> list[dict[str, Any]]:
        """What callers of the platform send: the join key and what the feature store does not know."""
        named = zip(self.keys, self.rows, strict=True)
        return [{"user_id": key, **{name: row[name] for name in self.sent}} for key, row in named]


def main(folder: Path) -> None:
    """Train, register, keep."""
    import mlflow

    training = joined(Path(os.environ["ML_PLATFORM_STATE"]) / "data" / "fraud_detection")
    keys, labels = training.pop("user_id"), training.pop("is_fraud")
    training, sent = ordered(training)
    pipeline, exported = trained(training, labels)
    (folder / "model.onnx").write_bytes(exported.SerializeToString())
    versions = register(pipeline, exported, training)
    shutil.rmtree(folder / "sklearn", ignore_errors=True)
    mlflow.sklearn.save_model(
        pipeline, folder / "sklearn", input_example=training.head(3), pip_requirements=[], serialization_format="cloudpickle"
    )
    sample = training.head(SAMPLE_ROWS)
    facts = Facts(
        folder=str(folder),
        versions=versions,
        sent=sent,
        columns={str(name): kind.kind for name, kind in training.dtypes.items()},
        keys=list(keys.head(SAMPLE_ROWS)),
        rows=json.loads(sample.to_json(orient="records")),
    )
    kept = {name: value for name, value in asdict(facts).items() if name != "folder"}
    (folder / "facts.json").write_text(json.dumps(kept))


def joined(data: Path) -> pd.DataFrame:
    """The newest transactions with what was known of their users at the time."""
    import pandas as pd

    times = {"event_timestamp": "datetime64[us, UTC]"}
    files = (pd.read_parquet(data / f"{name}.parquet").astype(times) for name in ("transactions", "user_features"))
    transactions, snapshots = (frame.sort_values("event_timestamp") for frame in files)
    transactions = transactions.tail(TRAINING_ROWS)
    rows = pd.merge_asof(transactions, snapshots, on="event_timestamp", by="user_id").dropna()
    rows = rows.sample(frac=1.0, random_state=0).reset_index(drop=True)
    whole = {name: "int64" for name, kind in snapshots.dtypes.items() if kind == "int64"}
    return rows.astype(whole).drop(columns=["transaction_id", "event_timestamp"])


def ordered(training: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The columns in the order in which the example trains on them, and the names of those that a request brings."""
    from examples.fraud_detection.dags import fraud_detection_training as example

    sent = list(example.REQUEST_COLUMNS)
    return training[[*sent, *(name for name in training.columns if name not in sent)]], sent


def trained(training: pd.DataFrame, labels: pd.Series[int]) -> tuple[Pipeline, ModelProto]:
    """The fitted pipeline and its ONNX form."""
    from examples.fraud_detection.dags import fraud_detection_training as example

    config = example.Config.parse({"n_estimators": TREES})
    pipeline = example.pipeline(config, numeric=[name for name in training.columns if name not in example.CATEGORICAL])
    pipeline.fit(training, labels)
    return pipeline, example.to_onnx(pipeline, training)


def register(pipeline: Pipeline, exported: ModelProto, training: pd.DataFrame) -> dict[str, list[int]]:
    """Log both forms in one run and register them, tagged with the features they use; gives their versions."""
    import mlflow
    from mlflow.models import infer_signature

    from examples.fraud_detection.dags import fraud_detection_training as example

    tags = {"feast.feature_service": example.FEATURE_SERVICE}
    signature = infer_signature(training, example.run_onnx(exported, training.head(64)))
    client = mlflow.MlflowClient()
    mlflow.set_experiment("benchmarks")
    with mlflow.start_run():
        onnx = mlflow.onnx.log_model(exported, name="onnx", signature=signature, pip_requirements=[])
        sklearn = mlflow.sklearn.log_model(
            pipeline,
            name="sklearn",
            signature=infer_signature(training, pipeline.predict(training.head(64))),
            input_example=training.head(3),
            pip_requirements=[],
            serialization_format="cloudpickle",
        )
    versions: dict[str, list[int]] = {}
    for name, sources in ((ONNX_MODEL, [onnx, onnx]), (SKLEARN_MODEL, [sklearn])):
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        made = [
            client.create_model_version(name, each.model_uri, run_id=each.run_id, tags=tags, model_id=each.model_id)
            for each in sources
        ]
        versions[name] = [int(each.version) for each in made]
    return versions


if __name__ == "__main__":
    main(Path(sys.argv[1]))
