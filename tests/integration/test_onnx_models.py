"""Models of scikit-learn, converted to ONNX and kept in a real MLflow registry, answered by the engine as scikit-learn would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from google.protobuf import json_format

from ml_platform.v1 import predictions_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.settings import BentomlSettings, MlflowSettings, ServingSettings
from tests.support.serving import PRODUCTION, FakeDeployments, FakeFeatures, struct

RANDOM = np.random.default_rng(7)
TABLE = pd.DataFrame(
    {
        "amount": RANDOM.normal(size=200).astype("float32"),
        "hour": RANDOM.integers(0, 24, 200),
        "city": RANDOM.choice(["Paris", "Rome", "Oslo"], 200),
    }
)
NUMBERS = TABLE[["amount", "hour"]]
FRAUD = (TABLE["amount"] > 0.3).astype(int)
ROW = {"amount": 0.5, "hour": 13}


class Case:
    """A fitted model, its table, and how it is converted."""

    def __init__(self, model: Any, table: pd.DataFrame, **options: Any) -> None:
        self.model, self.table, self.options = model, table, options

    def log(self, mlflow: Any, name: str) -> None:
        """Keep it as ONNX, with the signature of the original."""
        import skl2onnx
        from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

        kinds = {"amount": FloatTensorType, "hour": Int64TensorType, "city": StringTensorType}
        types = (
            [(column, kinds[column]([None, 1])) for column in self.table]
            if "city" in self.table
            else [("X", FloatTensorType([None, self.table.shape[1]]))]
        )
        options = {id(self.model): self.options} if self.options else None
        converted = skl2onnx.convert_sklearn(self.model, initial_types=types, options=options)
        given = self.table if "city" in self.table else self.table.to_numpy()
        signature = mlflow.models.infer_signature(self.table, self.model.predict(given))
        mlflow.onnx.log_model(converted, name="m", signature=signature, pip_requirements=[], registered_model_name=name)


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor, RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    numbers = NUMBERS.to_numpy()
    encoder = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
    tiers = np.array(["low", "mid", "high"])[np.digitize(TABLE["amount"], [-0.5, 0.5])]
    boosted = GradientBoostingClassifier(n_estimators=10).fit(numbers, FRAUD)
    return {
        "binary": Case(boosted, NUMBERS),
        "binary-arrays": Case(boosted, NUMBERS, zipmap=False),
        "tiers": Case(RandomForestClassifier(n_estimators=10, random_state=1).fit(numbers, tiers), NUMBERS),
        "price": Case(GradientBoostingRegressor(n_estimators=10).fit(numbers, TABLE["amount"] * 3), NUMBERS),
        "cities": Case(make_pipeline(encoder, GradientBoostingClassifier(n_estimators=10)).fit(TABLE, FRAUD), TABLE),
    }


@pytest.fixture(scope="module")
def tracking_uri(cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import mlflow

    folder: Path = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    try:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", artifact_location=(folder / "files").as_uri()))
        for name, case in cases.items():
            with mlflow.start_run():
                case.log(mlflow, name)
        yield mlflow.get_tracking_uri()
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture
async def engine(tracking_uri: str, cases: dict[str, Case], tmp_path: Path) -> AsyncIterator[PredictionEngine]:
    mlflow = MlflowBackend(settings=MlflowSettings(tracking_uri=tracking_uri))
    deployments = FakeDeployments()
    for name in cases:
        deployments.activate(name, 1)
    await mlflow.open()
    async with (
        BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9")) as bentoml,
        PredictionEngine(
            settings=ServingSettings(model_cache=tmp_path),
            deployments=deployments,
            registry=Models(backend=mlflow),
            features=FakeFeatures(),
            bentoml=bentoml,
        ) as opened,
    ):
        yield opened
    await mlflow.close()


async def _ask(engine: PredictionEngine, name: str, **inputs: object) -> predictions_pb2.PredictResponse:
    request = predictions_pb2.PredictRequest(model_name=name, environment=PRODUCTION, inputs=struct(inputs))
    return predictions_pb2.PredictResponse.FromString(await engine.predict_encoded(request, {}))


@pytest.mark.parametrize("name", ["binary", "binary-arrays"])
async def test_binary_classifier(engine: PredictionEngine, cases: dict[str, Case], name: str) -> None:
    """A classifier of two classes tells its label and the positive class's probability, whatever form the graph gives them in."""
    response = await _ask(engine, name, **ROW)

    model = cases[name].model
    assert response.prediction.number_value == model.predict([[0.5, 13]])[0]
    assert response.probability == pytest.approx(model.predict_proba([[0.5, 13]])[0][1], abs=1e-5)


async def test_classifier_of_several_classes(engine: PredictionEngine, cases: dict[str, Case]) -> None:
    """A classifier of several classes tells the predicted class by name, its probability, and all of them among the outputs."""
    response = await _ask(engine, "tiers", **ROW)

    model = cases["tiers"].model
    told = json_format.MessageToDict(response.outputs)["output_probability"]
    assert response.prediction.string_value == model.predict([[0.5, 13]])[0]
    assert response.probability == pytest.approx(max(model.predict_proba([[0.5, 13]])[0]), abs=1e-5)
    assert sorted(told) == ["high", "low", "mid"]


async def test_regression(engine: PredictionEngine, cases: dict[str, Case]) -> None:
    """A regression tells a number and no probability."""
    response = await _ask(engine, "price", **ROW)

    assert response.prediction.number_value == pytest.approx(cases["price"].model.predict([[0.5, 13]])[0], abs=1e-5)
    assert not response.HasField("probability")


async def test_columns_of_text_and_numbers(engine: PredictionEngine, cases: dict[str, Case]) -> None:
    """A pipeline with a categorical column gets each column in its own tensor."""
    response = await _ask(engine, "cities", city="Rome", **ROW)

    expected = cases["cities"].model.predict_proba(pd.DataFrame([{**ROW, "city": "Rome"}]))[0][1]
    assert response.probability == pytest.approx(expected, abs=1e-5)
