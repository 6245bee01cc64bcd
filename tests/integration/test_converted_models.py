"""Conversion of registered versions in a process of its own, on a real MLflow registry, and what the server then knows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from version_checks import conversion
from version_checks.onnx_conversion import CONVERTED, METHOD, NOT_CONVERTIBLE, UNDECIDED, Outcome

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import MlflowSettings

NAME = "tiers"
RANDOM = np.random.default_rng(3)
TABLE = pd.DataFrame({"amount": RANDOM.normal(size=60), "city": RANDOM.choice(["Paris", "Rome"], 60)})


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with three versions of one model."""
    import mlflow
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", artifact_location=(folder / "files").as_uri()))
        encoder = make_column_transformer((OneHotEncoder(), ["city"]), remainder="passthrough")
        model = make_pipeline(encoder, LogisticRegression()).fit(TABLE, np.where(TABLE["amount"] > 0, "high", "low"))
        for _ in range(3):
            with mlflow.start_run():
                mlflow.sklearn.log_model(
                    model,
                    name="model",
                    signature=mlflow.models.infer_signature(TABLE, model.predict(TABLE)),
                    input_example=TABLE.head(3),
                    serialization_format="cloudpickle",
                    pip_requirements=["scikit-learn"],
                    registered_model_name=NAME,
                )
        yield mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(before)


@pytest.fixture
def client(tracking_uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri)


@pytest.fixture
async def models(tracking_uri: str) -> AsyncIterator[Models]:
    backend = MlflowBackend(settings=MlflowSettings(tracking_uri=tracking_uri))
    await backend.open()
    yield Models(backend=backend)
    await backend.close()


@pytest.fixture(scope="module")
def outcome(tracking_uri: str) -> Outcome:
    """Version 1, converted."""
    return conversion.attempted(NAME, 1)


@pytest.mark.usefixtures("outcome")
async def test_the_server_reads_what_was_recorded(models: Models, outcome: Outcome, tmp_path: Path) -> None:
    """GetModelVersion has the state, the difference and the rows, and the graph can be fetched by its URI."""
    version = await models.get_version(NAME, 1)
    told = version.onnx_conversion
    assert told.state == models_pb2.ONNX_CONVERSION_STATE_CONVERTED
    assert (told.rows_compared, told.rows_in_range) == (outcome.rows_compared, outcome.rows_in_range)
    assert told.rows_compared > told.rows_in_range > 300
    assert (told.message, told.largest_difference, told.model_uri) == (
        outcome.message,
        outcome.largest_difference,
        outcome.model_uri,
    )
    assert (await models.download_graph(version, tmp_path / "graph") / "MLmodel").is_file()
    assert not version.tags


def test_the_graph_is_a_model_of_its_own(client: Any, outcome: Outcome, tracking_uri: str) -> None:
    """It has the version's signature and example; neither the version nor the run that trained it has changed."""
    import mlflow

    graph = mlflow.models.get_model_info(outcome.model_uri)
    version = client.get_model_version(NAME, "1")
    original = mlflow.models.get_model_info(f"models:/{NAME}/1")
    assert "onnx" in graph.flavors
    assert graph.signature == original.signature
    assert graph.saved_input_example_info is not None
    assert sorted(original.flavors) == ["python_function", "sklearn"]
    run = client.get_run(version.run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [original.model_id]
    assert client.get_logged_model(outcome.model_uri.removeprefix("models:/")).experiment_id == run.info.experiment_id


def test_a_version_is_converted_once(client: Any, outcome: Outcome) -> None:
    """Whoever deploys it again finds what was recorded; only a graph that is gone is made anew."""
    import mlflow

    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    assert conversion.known_outcome(NAME, 1, model) == outcome
    client.set_model_version_tag(NAME, "1", "ml_platform.onnx.model_uri", "models:/m-00000000000000000000000000000000")
    assert conversion.known_outcome(NAME, 1, model) is None
    client.set_model_version_tag(NAME, "1", "ml_platform.onnx.model_uri", outcome.model_uri)


async def test_tags_lead_nowhere_else(client: Any, models: Models, tmp_path: Path) -> None:
    """Whoever may tag a version cannot have the server fetch what is no model of MLflow."""
    version = await models.get_version(NAME, 2)
    version.onnx_conversion.model_uri = tmp_path.as_uri()
    with pytest.raises(PlatformError) as caught:
        await models.download_graph(version, tmp_path / "graph")
    assert caught.value.reason_name == "MODEL_ARTIFACT_MISSING"


async def test_an_attempt_that_takes_too_long_is_made_again(models: Models, tracking_uri: str) -> None:
    """The version is served without a graph and says why. A busy machine proves nothing, so the next deployment tries again."""
    import mlflow

    outcome = conversion.attempted(NAME, 2, patience=0.5)
    assert outcome.state == UNDECIDED
    assert outcome.message.startswith("Converting it took longer than 0.5 s.")
    told = (await models.get_version(NAME, 2)).onnx_conversion
    assert (told.state, told.message) == (models_pb2.ONNX_CONVERSION_STATE_UNDECIDED, outcome.message)
    assert not told.HasField("largest_difference")

    assert conversion.known_outcome(NAME, 2, mlflow.pyfunc.load_model(f"models:/{NAME}/2")) is None
    assert conversion.attempted(NAME, 2).state == CONVERTED
    told = (await models.get_version(NAME, 2)).onnx_conversion
    assert told.state == models_pb2.ONNX_CONVERSION_STATE_CONVERTED


def test_an_attempt_that_uses_up_its_effort_is_not_made_again(tracking_uri: str) -> None:
    """However idle the machine is, it would use it up again."""
    import mlflow

    outcome = conversion.attempted(NAME, 3, effort=1)
    assert (outcome.state, outcome.message) == (NOT_CONVERTIBLE, "Converting it takes more than 1 s of a processor.")
    assert conversion.known_outcome(NAME, 3, mlflow.pyfunc.load_model(f"models:/{NAME}/3")) == outcome


def test_an_outcome_of_an_older_comparison_is_not_trusted(client: Any, outcome: Outcome) -> None:
    """It may have accepted a graph that answers otherwise than the model."""
    import mlflow

    model = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    assert conversion.known_outcome(NAME, 1, model) == outcome
    client.delete_model_version_tag(NAME, "1", "ml_platform.onnx.method")
    assert conversion.known_outcome(NAME, 1, model) is None
    client.set_model_version_tag(NAME, "1", "ml_platform.onnx.method", METHOD)


def test_a_registry_that_is_away_is_told(tracking_uri: str, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    """That is no outcome of an attempt: the deployment has to be repeated."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(RuntimeError, match="could not be tried"):
        conversion.attempted(NAME, 1)


def test_the_outcome_says_what_was_compared(outcome: Outcome) -> None:
    """A person reads the model's kind and the number of rows."""
    assert outcome.state == CONVERTED
    assert outcome.message.startswith("scikit-learn's LogisticRegression was converted; it answers alike on ")
    assert f"3 of its own example, {outcome.rows_in_range} within the range of its columns." in outcome.message
    assert outcome.message.endswith("What the model refuses in amount is refused here too.")
