"""Two models of scikit-learn on the real stack: one that becomes an ONNX graph when it is deployed, and one that does not."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml_platform import MLPlatform, MLPlatformError
from tests.support.stack import Stack

pytestmark = pytest.mark.stack

RANDOM = np.random.default_rng(11)
TABLE = pd.DataFrame(
    {
        "amount": np.round(RANDOM.lognormal(3, 1, 300), 2),
        "hour": RANDOM.integers(0, 24, 300),
        "city": RANDOM.choice(["Paris", "Rome", "Oslo"], 300),
    }
)


@dataclass(frozen=True)
class Deployed:
    """A version that answers: its name, the model itself, and what its deployment came to."""

    name: str
    model: Any
    version: Any
    runtime: str


@pytest.fixture(scope="module")
def both(platform: MLPlatform, stack: Stack) -> dict[str, Deployed]:
    """Both, deployed at the same time."""
    import mlflow

    mlflow.set_tracking_uri(stack.urls["mlflow"])
    mlflow.set_experiment(f"onnx_conversion {uuid.uuid4().hex[:8]}")
    models = _fitted()
    names = {kind: f"{kind}-{uuid.uuid4().hex[:8]}" for kind in models}
    for kind, model in models.items():
        with mlflow.start_run() as run:
            mlflow.sklearn.log_model(
                model,
                name="model",
                signature=mlflow.models.infer_signature(TABLE, model.predict(TABLE)),
                input_example=TABLE.head(5),
                serialization_format="cloudpickle",
                pip_requirements=["scikit-learn"],
            )
        platform.register_model(run_id=run.info.run_id, name=names[kind])
    under_way = {kind: platform.deploy_model(model_name=name, version=1, environment="staging") for kind, name in names.items()}
    done = {kind: platform.wait_for_deployment(each.deployment_id, timeout=240) for kind, each in under_way.items()}
    return {
        kind: Deployed(names[kind], model, platform.get_model_version(names[kind], 1), done[kind].runtime)
        for kind, model in models.items()
    }


def _fitted() -> dict[str, Any]:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

    encoded = make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["amount"]), remainder="passthrough")
    numbered = make_column_transformer((OrdinalEncoder(), ["city"]), remainder="passthrough")
    tiers = np.array(["low", "mid", "high"])[np.digitize(TABLE["amount"], [10, 40])]
    return {
        "tiers": make_pipeline(encoded, GradientBoostingClassifier(n_estimators=20)).fit(TABLE, tiers),
        "minutes": make_pipeline(numbered, HistGradientBoostingRegressor(max_iter=10)).fit(TABLE, TABLE["amount"] * 2),
    }


def test_a_model_that_converts_is_run_by_the_platform_itself(both: dict[str, Deployed]) -> None:
    """The version tells what was compared, and the deployment what executes it."""
    tiers = both["tiers"]
    assert (tiers.runtime, tiers.version.onnx_conversion.state) == ("onnx", "converted")
    assert tiers.version.onnx_conversion.rows_compared > 250
    assert tiers.version.onnx_conversion.largest_difference < 1e-5
    assert "sklearn" in tiers.version.flavors


def test_it_answers_as_the_model_would(platform: MLPlatform, both: dict[str, Deployed]) -> None:
    """Label and probabilities are those of scikit-learn, text columns included."""
    tiers = both["tiers"]
    for row in TABLE.head(10).to_dict("records"):
        said = platform.predict(tiers.name, row, environment="staging")
        table = pd.DataFrame([row])
        probabilities = tiers.model.predict_proba(table)[0]
        assert said.prediction == tiers.model.predict(table)[0]
        assert said.outputs["probability"] == pytest.approx(probabilities, abs=1e-5)
        assert said.probability == pytest.approx(probabilities.max(), abs=1e-5)


def test_a_model_that_does_not_convert_is_served_by_bentoml(platform: MLPlatform, both: dict[str, Deployed]) -> None:
    """The version says why there is no graph, and answers all the same."""
    minutes = both["minutes"]
    assert (minutes.runtime, minutes.version.onnx_conversion.state) == ("bentoml", "not_convertible")
    assert "HistGradientBoostingRegressor does not convert" in minutes.version.onnx_conversion.message
    row = TABLE.iloc[0].to_dict()
    said = platform.predict(minutes.name, row, environment="staging")
    assert said.prediction == pytest.approx(minutes.model.predict(pd.DataFrame([row]))[0])


def test_what_the_model_refuses_the_graph_refuses(platform: MLPlatform, both: dict[str, Deployed]) -> None:
    """A city that the encoder never saw is an error, whatever executes the version."""
    for each in both.values():
        with pytest.raises(MLPlatformError) as caught:
            platform.predict(each.name, {"amount": 3.0, "hour": 4, "city": "Atlantis"}, environment="staging")
        assert caught.value.reason == "INPUT_REJECTED"


def test_a_version_that_fails_on_a_made_up_row_says_so(platform: MLPlatform, stack: Stack) -> None:
    """Its checks make up a category that it never saw. It is active and in doubt, and a failure says where it was."""
    import mlflow

    mlflow.set_tracking_uri(stack.urls["mlflow"])
    mlflow.set_experiment(f"doubt {uuid.uuid4().hex[:8]}")
    model, name = _fitted()["minutes"], f"doubt-{uuid.uuid4().hex[:8]}"
    with mlflow.start_run() as run:
        mlflow.sklearn.log_model(
            model,
            name="model",
            signature=mlflow.models.infer_signature(TABLE, model.predict(TABLE)),
            serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )
    platform.register_model(run_id=run.info.run_id, name=name)
    started = platform.deploy_model(model_name=name, version=1, environment="staging")

    deployment = platform.wait_for_deployment(started.deployment_id, timeout=480)

    assert deployment.state == "active"
    assert "fails on a made-up row" in deployment.message
    assert "fails on a made-up row" in platform.get_model_version(name, 1).doubt
    known, unknown = {"amount": 20.0, "hour": 3, "city": "Rome"}, {"amount": 20.0, "hour": 3, "city": "Atlantis"}
    assert platform.predict(name, known, environment="staging").prediction == pytest.approx(
        model.predict(TABLE.assign(**known))[0]
    )
    with pytest.raises(MLPlatformError, match=r"The model failed on these inputs: ValueError at .*_encoders\.py:\d+") as caught:
        platform.predict(name, unknown, environment="staging")
    assert caught.value.reason == "INPUT_REJECTED"
