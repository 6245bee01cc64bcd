"""Real models of the libraries that convert, as MLflow loads them, and the graphs that become of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from version_checks import answers, attempt
from version_checks.estimators import estimator_of
from version_checks.fields import fields_of
from version_checks.onnx_conversion import CONVERTED, NOT_CONVERTIBLE, OUTPUT_MISMATCH, Outcome

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.onnx.runtime import load_onnx
from tests.support.serving import column, save_onnx

RANDOM = np.random.default_rng(5)
ROWS = 200
NUMBERS = pd.DataFrame(
    {
        "amount": np.round(RANDOM.lognormal(3, 1, ROWS), 2),
        "age": RANDOM.normal(40, 10, ROWS),
        "hour": RANDOM.integers(0, 24, ROWS),
    }
)
MIXED = NUMBERS.assign(city=RANDOM.choice(["Paris", "Rome", "Oslo"], ROWS), vip=RANDOM.random(ROWS) > 0.5)
GAPS = MIXED.assign(age=MIXED["age"].mask(RANDOM.random(ROWS) < 0.2))
TWO = (NUMBERS["amount"] > 20).astype(int).to_numpy()
HOURS = NUMBERS["hour"].to_numpy()
COIN = np.random.default_rng(5).integers(0, 2, ROWS)
WORDS = np.array(["no", "yes"])[TWO]
THREE = np.digitize(NUMBERS["amount"], [10, 40])
TIERS = np.array(["low", "mid", "high"])[THREE]
PRICE = (NUMBERS["amount"] * 2 + NUMBERS["age"]).to_numpy()
PAIRS = np.column_stack([PRICE, NUMBERS["age"]])


@dataclass(frozen=True)
class Case:
    """A model to fit, on what, and as which flavour of MLflow it is kept."""

    make: Callable[[], Any]
    table: Any
    target: Any
    flavor: str = "sklearn"
    predict_fn: str = "predict"


def columns(*, unknown: str = "ignore", imputed: bool = False) -> Any:
    """The usual first step: numbers scaled, text encoded, the rest as it is."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(), StandardScaler()) if imputed else StandardScaler()
    encoder = OneHotEncoder(handle_unknown=unknown)
    return make_column_transformer((numbers, ["amount", "age"]), (encoder, ["city"]), remainder="passthrough")


def ordinal(**options: Any) -> Any:
    """Text as numbers."""
    from sklearn.compose import make_column_transformer
    from sklearn.preprocessing import OrdinalEncoder

    return make_column_transformer((OrdinalEncoder(**options), ["city"]), remainder="passthrough")


def piped(first: Callable[[], Any], last: Callable[[], Any]) -> Callable[[], Any]:
    """A pipeline of two."""

    def make() -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(first(), last())

    return make


def sklearn(path: str, **options: Any) -> Callable[[], Any]:
    """An estimator by its name below `sklearn`."""

    def make() -> Any:
        import importlib

        module, _, name = path.rpartition(".")
        return getattr(importlib.import_module(f"sklearn.{module}"), name)(**options)

    return make


def lightgbm(name: str, **options: Any) -> Callable[[], Any]:
    """An estimator of LightGBM."""

    def make() -> Any:
        import lightgbm as library

        return getattr(library, name)(n_estimators=8, verbose=-1, **options)

    return make


def xgboost(name: str, **options: Any) -> Callable[[], Any]:
    """An estimator of XGBoost."""

    def make() -> Any:
        import xgboost as library

        return getattr(library, name)(n_estimators=8, **options)

    return make


class Booster:
    """A bare booster, made where an estimator would be fitted."""

    def __init__(self, library: str, **options: Any) -> None:
        self._library, self._options = library, options

    def fit(self, table: Any, target: Any) -> Any:
        if self._library == "lightgbm":
            import lightgbm as light

            return light.train({"verbose": -1, **self._options}, light.Dataset(table, target), 8)
        import xgboost as extreme

        return extreme.train(self._options, extreme.DMatrix(table, target), 8)


def booster(library: str, **options: Any) -> Callable[[], Any]:
    return lambda: Booster(library, **options)


CONVERTS = {
    "linear regression": Case(sklearn("linear_model.LinearRegression"), NUMBERS, PRICE),
    "two classes": Case(sklearn("linear_model.LogisticRegression", max_iter=500), NUMBERS, TWO),
    "true and false": Case(sklearn("tree.DecisionTreeClassifier"), NUMBERS, TWO.astype(bool)),
    "classes with names": Case(sklearn("ensemble.RandomForestClassifier", n_estimators=8), NUMBERS, TIERS),
    "no probabilities": Case(sklearn("svm.LinearSVC"), NUMBERS, TIERS),
    "probabilities alone": Case(
        sklearn("ensemble.RandomForestClassifier", n_estimators=8), NUMBERS, TIERS, predict_fn="predict_proba"
    ),
    "several numbers": Case(sklearn("ensemble.RandomForestRegressor", n_estimators=8), NUMBERS, PAIRS),
    "several labels": Case(sklearn("ensemble.RandomForestClassifier", n_estimators=8), NUMBERS, np.column_stack([TWO, THREE])),
    "an array": Case(sklearn("linear_model.LogisticRegression", max_iter=500), NUMBERS.to_numpy(), TWO),
    "no target": Case(sklearn("cluster.KMeans", n_clusters=3, n_init=1), NUMBERS, None),
    "text and boosting": Case(piped(columns, sklearn("ensemble.GradientBoostingClassifier", n_estimators=8)), MIXED, WORDS),
    "text refused if unknown": Case(
        piped(lambda: columns(unknown="error"), sklearn("linear_model.LogisticRegression", max_iter=500)), MIXED, TIERS
    ),
    "text as numbers": Case(
        piped(
            lambda: ordinal(handle_unknown="use_encoded_value", unknown_value=-1),
            sklearn("ensemble.RandomForestRegressor", n_estimators=8),
        ),
        MIXED,
        PRICE,
    ),
    "text alone": Case(
        piped(
            sklearn("preprocessing.OneHotEncoder", handle_unknown="ignore"),
            sklearn("linear_model.LogisticRegression", max_iter=500),
        ),
        MIXED[["city"]],
        TWO,
    ),
    "gaps filled": Case(
        piped(lambda: columns(imputed=True), sklearn("ensemble.GradientBoostingRegressor", n_estimators=8)), GAPS, PRICE
    ),
    "gaps in LightGBM": Case(piped(columns, lightgbm("LGBMClassifier")), GAPS, TIERS),
    "gaps in XGBoost": Case(piped(columns, xgboost("XGBRegressor")), GAPS, PRICE),
    "trees that ask for gaps": Case(
        sklearn("ensemble.RandomForestClassifier", n_estimators=8, random_state=0),
        GAPS[["amount", "age"]],
        GAPS["age"].isna().astype(int).to_numpy(),
    ),
    "LightGBM": Case(lightgbm("LGBMClassifier"), NUMBERS, TIERS, "lightgbm"),
    "LightGBM's regression": Case(lightgbm("LGBMRegressor"), NUMBERS, PRICE, "lightgbm"),
    "XGBoost": Case(xgboost("XGBClassifier"), NUMBERS, THREE, "xgboost"),
    "XGBoost's regression": Case(xgboost("XGBRegressor"), NUMBERS, PRICE, "xgboost"),
    "booster of two classes": Case(booster("lightgbm", objective="binary"), NUMBERS, TWO, "lightgbm"),
    "booster of three": Case(booster("xgboost", objective="multi:softprob", num_class=3), NUMBERS, THREE, "xgboost"),
    "booster of counts": Case(booster("xgboost", objective="count:poisson"), NUMBERS, PRICE, "xgboost"),
}

REFUSED = {
    "histogram boosting": (
        Case(piped(ordinal, sklearn("ensemble.HistGradientBoostingRegressor", max_iter=3)), MIXED, PRICE),
        NOT_CONVERTIBLE,
        "HistGradientBoostingRegressor does not convert",
    ),
    "a function of its own": (
        Case(
            piped(sklearn("preprocessing.FunctionTransformer", func=np.log1p), sklearn("linear_model.LinearRegression")),
            NUMBERS,
            PRICE,
        ),
        NOT_CONVERTIBLE,
        "does not convert",
    ),
    "times": (
        Case(
            sklearn("dummy.DummyRegressor"), NUMBERS.assign(at=pd.Timestamp("2024-01-01")), PRICE
        ),
        NOT_CONVERTIBLE,
        "Its column at is of the type datetime, which no converter takes.",
    ),
    "logarithms of probabilities": (
        Case(sklearn("linear_model.LogisticRegression", max_iter=500), NUMBERS, TWO, predict_fn="predict_log_proba"),
        NOT_CONVERTIBLE,
        "It was logged to answer with predict_log_proba",
    ),
    "classes as numbers": (
        Case(booster("xgboost", objective="multi:softmax", num_class=3), NUMBERS, THREE, "xgboost"),
        NOT_CONVERTIBLE,
        "XGBoost's objective multi:softmax has no converter.",
    ),
    "neighbours": (
        Case(piped(sklearn("preprocessing.StandardScaler"), sklearn("neighbors.KNeighborsClassifier")), NUMBERS, TWO),
        NOT_CONVERTIBLE,
        "KNeighborsClassifier does not convert: a graph would take other rows of those that are equally near.",
    ),
    "large coefficients": (
        Case(piped(sklearn("preprocessing.StandardScaler"), sklearn("svm.SVC", C=1e4)), NUMBERS, COIN),
        NOT_CONVERTIBLE,
        "SVC does not convert: in 32 bits what it decides by would be up to",
    ),
    "terms that cancel out": (
        Case(sklearn("linear_model.LinearRegression"), NUMBERS.assign(hour=NUMBERS["hour"] + 10**12), PRICE + 50 * HOURS),
        NOT_CONVERTIBLE,
        "LinearRegression does not convert: its terms cancel out, and rounding alone is up to 0.01",
    ),
    "unknown text": (
        Case(piped(ordinal, sklearn("ensemble.RandomForestRegressor", n_estimators=8)), MIXED, PRICE),
        OUTPUT_MISMATCH,
        "for a value of city that it never saw, the model fails and the graph does otherwise",
    ),
    "missing text": (
        Case(
            piped(columns, sklearn("linear_model.LogisticRegression", max_iter=500)),
            MIXED.assign(city=MIXED["city"].mask(RANDOM.random(ROWS) < 0.2)),
            TWO,
        ),
        OUTPUT_MISMATCH,
        "the graph alone fails (the column city may not be missing)",
    ),
}  # fmt: skip


def loaded(case: Case, folder: Path) -> Any:
    """The fitted model, kept and loaded by MLflow."""
    import mlflow

    made = case.make()
    model = made.fit(case.table, case.target) if case.target is not None else made.fit(case.table)
    options: dict[str, Any] = {}
    if case.flavor == "sklearn":
        options = {"serialization_format": "cloudpickle", "pyfunc_predict_fn": case.predict_fn}
    signature = mlflow.models.infer_signature(case.table)
    save = getattr(mlflow, case.flavor).save_model
    save(model, str(folder / "version"), signature=signature, pip_requirements=[], **options)
    return mlflow.pyfunc.load_model(str(folder / "version"))


def examined(case: Case, folder: Path) -> tuple[Outcome, onnx.ModelProto | None, Any]:
    model = loaded(case, folder)
    outcome, graph = attempt.examine(model, case.table[:20])
    return outcome, graph, model


@pytest.mark.parametrize("case", CONVERTS.values(), ids=CONVERTS.keys())
def test_a_graph_answers_as_the_model_does(case: Case, tmp_path: Path) -> None:
    """On the example and on a made-up sample, in value and in form, probabilities included."""
    outcome, graph, _ = examined(case, tmp_path)
    assert (outcome.state, outcome.message) == (CONVERTED, outcome.message)
    assert graph is not None
    assert outcome.largest_difference is not None
    assert outcome.largest_difference < 1e-5
    assert outcome.rows_compared >= 256


@pytest.mark.parametrize(("case", "state", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_a_model_that_no_graph_can_stand_for_is_told_with_the_reason(case: Case, state: str, told: str, tmp_path: Path) -> None:
    """It is an outcome, not a failure, and there is no graph to use."""
    outcome, graph, _ = examined(case, tmp_path)
    assert (outcome.state, graph) == (state, None)
    assert told in outcome.message


@pytest.mark.parametrize("name", ["text and boosting", "true and false", "several numbers", "gaps filled", "an array"])
async def test_the_server_answers_from_the_graph_what_bentoml_would(name: str, tmp_path: Path) -> None:
    """The names of the outputs and their values are those that the serving side gives for the model itself."""
    case = CONVERTS[name]
    _, graph, model = examined(case, tmp_path)
    assert graph is not None
    schema = model.metadata.get_input_schema()
    fields = fields_of(schema)
    rows = attempt.rows_of(case.table[:20], fields)
    expected = answers.Original(model, estimator_of(model, model.metadata.flavors), fields)(rows)
    signature = models_pb2.ModelSignature(
        inputs=[
            column(
                field.name,
                f"tensor({field.kind})" if field.width else field.kind,
                required=field.required,
                shape=field.width * [-1, field.width][:2],
            )
            for field in fields
        ]
    )
    pool = BlockingPool("ONNX Runtime", threads=1)
    runtime = await load_onnx(save_onnx(tmp_path / "graph", graph), columns_of(signature), pool)
    given = await runtime.predict(rows)
    pool.close()
    assert [list(answer.outputs) for answer in given] == [list(answer) for answer in expected]
    for answer, wanted in zip(given, expected, strict=True):
        for output, value in wanted.items():
            assert answer.outputs[output] == (value if isinstance(value, str | bool) else pytest.approx(value, rel=1e-5))
    if "probability" in expected[0]:
        assert [answer.probability for answer in given] == pytest.approx(
            [answer["probability"][1] for answer in expected], rel=1e-5
        )


def test_a_model_of_another_flavour_is_not_tried(tmp_path: Path) -> None:
    """A function may do anything, and no converter looks into it."""
    import mlflow

    signature = mlflow.models.infer_signature(NUMBERS)
    mlflow.pyfunc.save_model(
        str(tmp_path / "version"), python_model=lambda model_input: model_input["age"], signature=signature, pip_requirements=[]
    )
    outcome, graph = attempt.examine(mlflow.pyfunc.load_model(str(tmp_path / "version")), NUMBERS)
    assert (outcome.state, graph) == (NOT_CONVERTIBLE, None)
    assert outcome.message.startswith("Models of the flavour python_function have no converter")


def test_without_an_example_the_sample_is_made_up(tmp_path: Path) -> None:
    """The signature and what the encoders know are enough; then no row is of an example."""
    model = loaded(CONVERTS["text refused if unknown"], tmp_path)
    outcome, graph = attempt.examine(model, None)
    assert (outcome.state, graph is not None) == (CONVERTED, True)
    assert "0 of its own example" in outcome.message


def test_a_model_that_answers_no_made_up_row_is_not_converted(tmp_path: Path) -> None:
    """There is nothing to compare, and the message says what would help."""
    model = loaded(CONVERTS["linear regression"], tmp_path)
    model.predict = _fails
    outcome, graph = attempt.examine(model, None)
    assert (outcome.state, graph) == (NOT_CONVERTIBLE, None)
    assert "log it with input_example=" in outcome.message


def _fails(given: Any) -> Any:
    raise ValueError("not today")
