"""A real BentoML process, with real models from a real MLflow registry, behind the client and the runtime of the engine."""

from __future__ import annotations

import asyncio
import math
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest

from ml_platform import AsyncMLPlatform, MLPlatformError
from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime
from ml_platform_server.settings import BentomlSettings, MlflowSettings
from tests.support.bentoml_server import bentoml_server
from tests.support.errors import rich_error
from tests.support.inference import call_inference, numbers, raw_request
from tests.support.predictions import House, running

AT = datetime(2024, 1, 1)  # noqa: DTZ001  # as MLflow's columns have it
BOOM_LINE = next(
    at for at, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.strip().startswith("raise Runt")
)


def _log_classifier(mlflow: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    table = pd.DataFrame({"size": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], "visits": [1, 2, 3, 4, 5, 6]})
    model = LogisticRegression().fit(table, ["low", "low", "mid", "mid", "high", "high"])
    signature = mlflow.models.infer_signature(table, model.predict(table))
    mlflow.sklearn.log_model(
        model,
        name="m",
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        registered_model_name="tiers",
    )


def _log_regression(mlflow: Any) -> None:
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    table = pd.DataFrame({"city": ["A", "B"] * 30, "rooms": [1.0, np.nan, 3.0] * 20})
    encoder = make_column_transformer((OrdinalEncoder(), ["city"]), remainder="passthrough")
    model = make_pipeline(encoder, HistGradientBoostingRegressor(max_iter=5)).fit(table, np.arange(60.0))
    signature = mlflow.models.infer_signature(table, model.predict(table))
    mlflow.sklearn.log_model(
        model,
        name="m",
        signature=signature,
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        registered_model_name="prices",
    )


def _log_custom(mlflow: Any) -> None:
    class Custom(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            if (model_input["name"] == "boom").any():
                raise RuntimeError("the model's own secret words")
            days = (pd.Timestamp("2024-01-11") - model_input["since"]).dt.days
            ratio = np.where(model_input["blob"].map(len) > 3, np.nan, 0.5)
            return pd.DataFrame({"greeting": "hello " + model_input["name"], "days": days, "ratio": ratio})

    example = pd.DataFrame({"name": ["Ann"], "since": [pd.Timestamp("2024-01-01")], "blob": [b"abc"], "vip": [True]})
    signature = mlflow.models.infer_signature(example, pd.DataFrame({"greeting": ["hello"], "days": [1], "ratio": [0.5]}))
    mlflow.pyfunc.log_model(
        python_model=Custom(), name="m", signature=signature, pip_requirements=["numpy"], registered_model_name="custom model"
    )


def _log_tensor(mlflow: Any) -> None:
    class Sums(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input.sum(axis=(1, 2))

    array = np.ones((1, 2, 3), np.float32)
    signature = mlflow.models.infer_signature(array, np.array([6.0], np.float32))
    mlflow.pyfunc.log_model(
        python_model=Sums(), name="m", signature=signature, pip_requirements=["numpy"], registered_model_name="sums"
    )


def _log_echo(mlflow: Any) -> None:
    """A model that gives back what it gets, text where it gets a list, and tells whether it gets the optional integer at all."""

    class Echo(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            given = pd.DataFrame(model_input).reset_index(drop=True)
            given["list"] = given["list"].map(lambda value: repr((type(value).__name__, str(value.dtype), value.tolist())))
            given["count"] = given["count"].astype(str) if "count" in given else "left out"
            return given

    schema = mlflow.types.Schema(
        [
            mlflow.types.ColSpec("double", "number"),
            mlflow.types.ColSpec("float", "single", required=False),
            mlflow.types.ColSpec("long", "count", required=False),
            mlflow.types.ColSpec("datetime", "at"),
            mlflow.types.ColSpec(mlflow.types.schema.Array(mlflow.types.DataType.integer), "list"),
        ]
    )
    mlflow.pyfunc.log_model(
        python_model=Echo(),
        name="m",
        signature=mlflow.models.ModelSignature(inputs=schema),
        pip_requirements=["numpy"],
        registered_model_name="echo",
    )


def _log_scaled(mlflow: Any) -> None:
    class Scaled(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return model_input["x"] * params["factor"] + sum(params["add"]) + len(params["word"])

    frame = pd.DataFrame({"x": [1.0]})
    params = {"factor": 2.0, "add": [1, 2**53 + 1], "word": ""}
    signature = mlflow.models.infer_signature(frame, pd.Series([1.0]), params)
    mlflow.pyfunc.log_model(
        python_model=Scaled(), name="m", signature=signature, pip_requirements=["numpy"], registered_model_name="scaled"
    )


def _log_probabilities(mlflow: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    table = pd.DataFrame({"size": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]})
    model = LogisticRegression().fit(table, [0, 0, 0, 1, 1, 1])
    mlflow.sklearn.log_model(
        model,
        name="m",
        signature=mlflow.models.infer_signature(table, model.predict_proba(table)),
        pyfunc_predict_fn="predict_proba",
        serialization_format="cloudpickle",
        pip_requirements=["scikit-learn"],
        registered_model_name="odds",
    )


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry with models of several flavours."""
    import mlflow

    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", artifact_location=(folder / "files").as_uri()))
        for log in (_log_classifier, _log_regression, _log_custom, _log_tensor, _log_echo, _log_probabilities, _log_scaled):
            with mlflow.start_run():
                log(mlflow)
        yield uri
    finally:
        mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def url(tracking_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with bentoml_server(tmp_path_factory.mktemp("bentoml"), tracking_uri) as started:
        yield started


@pytest.fixture
async def backend(url: str) -> AsyncIterator[BentomlBackend]:
    async with BentomlBackend(settings=BentomlSettings(url=url, timeout=60)) as opened:
        yield opened


@pytest.fixture
async def models(tracking_uri: str) -> AsyncIterator[Models]:
    backend = MlflowBackend(settings=MlflowSettings(tracking_uri=tracking_uri))
    await backend.open()
    yield Models(backend=backend)
    await backend.close()


async def _runtime(models: Models, backend: BentomlBackend, name: str) -> BentomlRuntime:
    version: models_pb2.ModelVersion = await models.get_version(name, 1)
    return BentomlRuntime(version=version, columns=columns_of(version.signature), backend=backend)


async def test_probe_says_nothing_when_bentoml_is_well(backend: BentomlBackend) -> None:
    """A BentoML that is ready passes the probe."""
    await backend.probe()


async def test_probe_tells_that_bentoml_is_down() -> None:
    """A BentoML that is not there is BACKEND_UNAVAILABLE."""
    async with BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9", timeout=2)) as backend:
        with pytest.raises(PlatformError) as caught:
            await backend.probe()

    assert caught.value.reason == errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE


async def test_classifier_tells_label_and_the_probability_of_it(models: Models, backend: BentomlBackend) -> None:
    """A classifier of several classes gives each row its label, every class's probability, and that of the label."""
    runtime = await _runtime(models, backend, "tiers")
    await runtime.warm()

    low, high = await runtime.predict([[0.0, 1], [5.0, 6]])

    assert (low.prediction, high.prediction) == ("low", "high")
    given = low.outputs["probability"]
    assert isinstance(given, list)
    assert len(given) == 3
    assert max(given) == low.probability


async def test_regression_takes_text_and_missing_numbers(models: Models, backend: BentomlBackend) -> None:
    """A pipeline with a categorical and an optional column answers with a number and no probability."""
    runtime = await _runtime(models, backend, "prices")

    with_rooms, without = await runtime.predict([["A", 3.0], ["B", None]])

    assert isinstance(with_rooms.prediction, float)
    assert isinstance(without.prediction, float)
    assert (with_rooms.probability, list(with_rooms.outputs)) == (None, ["prediction"])


async def test_custom_model_gives_its_outputs_by_name(models: Models, backend: BentomlBackend) -> None:
    """Times, bytes and booleans reach a custom model as such; its table comes back by column, NaN included."""
    runtime = await _runtime(models, backend, "custom model")

    ann, bob = await runtime.predict(
        [["Ann", datetime(2024, 1, 1), b"abc", True], ["Bob", datetime(2024, 1, 10, 12), b"abcd", False]]  # noqa: DTZ001
    )

    assert ann.outputs == {"greeting": "hello Ann", "days": 10, "ratio": 0.5}
    assert repr(bob.outputs) == repr({"greeting": "hello Bob", "days": 0, "ratio": math.nan})
    assert ann.prediction == "hello Ann"


async def test_tensor_without_a_name_is_taken(models: Models, backend: BentomlBackend) -> None:
    """A model of arrays gets them in their shape."""
    runtime = await _runtime(models, backend, "sums")

    (answer,) = await runtime.predict([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])

    assert answer.prediction == 21.0


async def test_infinity_reaches_the_model_and_comes_back(models: Models, backend: BentomlBackend) -> None:
    """Infinity and NaN are what they are in both directions, for rows and for columns, and a null of a float is NaN."""
    runtime = await _runtime(models, backend, "echo")
    numbers, singles = [math.inf, -math.inf, math.nan, 1.0], [math.inf, None, math.nan, 0.5]
    rows = [[number, single, 1, AT, [1]] for number, single in zip(numbers, singles, strict=True)]

    by_row = [(answer.outputs["number"], answer.outputs["single"]) for answer in await runtime.predict(rows)]
    singles_column = np.array([math.inf, math.nan, math.nan, 0.5])
    columns: list[Values] = [np.array(numbers), singles_column, np.ones(4, np.int64), [AT] * 4, [[1]] * 4]
    by_column = (await runtime.predict_columns(columns, 4)).outputs

    assert repr(by_row) == "[(inf, inf), (-inf, nan), (nan, nan), (1.0, 0.5)]"
    assert repr(np.asarray(by_column["number"]).tolist()) == "[inf, -inf, nan, 1.0]"
    assert repr(np.asarray(by_column["single"]).tolist()) == "[inf, nan, nan, 0.5]"


async def test_a_null_integer_is_left_out_as_mlflow_has_it(models: Models, backend: BentomlBackend) -> None:
    """A row without an optional integer reaches the model without the column; its neighbours keep theirs."""
    runtime = await _runtime(models, backend, "echo")
    rows = [[float(at), 1.0, None if at % 2 else 2**53 + 1, AT, [at, 2**31 - 1]] for at in range(5)]

    answers = await runtime.predict(rows)

    assert [answer.outputs["number"] for answer in answers] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert [answer.outputs["count"] for answer in answers] == [str(2**53 + 1), "left out"] * 2 + [str(2**53 + 1)]
    assert answers[3].outputs["list"] == repr(("ndarray", "int32", [3, 2**31 - 1]))


@pytest.mark.parametrize(
    ("column", "row"),
    [
        ("at", [1.0, 1.0, 1, "2300-01-01T00:00:00", [1]]),
        ("list", [1.0, 1.0, 1, AT, [2**31]]),
        ("list", [1.0, 1.0, 1, AT, "text"]),
        ("count", [1.0, 1.0, 2**63, AT, [1]]),
    ],
)
async def test_a_value_that_the_signature_refuses_is_a_bad_input(
    models: Models, backend: BentomlBackend, column: str, row: list[object]
) -> None:
    """What MLflow refuses to hand to the model is INPUT_INVALID naming the column, not a failure of the model."""
    runtime = await _runtime(models, backend, "echo")

    with pytest.raises(PlatformError) as caught:
        await runtime.predict([row])

    assert caught.value.reason == errors_pb2.ERROR_REASON_INPUT_INVALID
    assert [violation.field for violation in caught.value.violations] == [f"inputs.{column}"]


async def test_a_model_that_predicts_probabilities_has_one_of_them(models: Models, backend: BentomlBackend) -> None:
    """A model whose prediction is predict_proba gives the probability of the positive class, by row and by column."""
    runtime = await _runtime(models, backend, "odds")

    (answer,) = await runtime.predict([[4.0]])
    columns = await runtime.predict_columns([np.array([4.0])], 1)

    assert isinstance(answer.prediction, list)
    assert answer.probability == answer.prediction[1] > 0.5
    assert columns.probabilities is not None
    assert columns.probabilities().tolist() == [answer.probability]


async def test_failing_model_is_told_without_its_words(models: Models, backend: BentomlBackend) -> None:
    """A model that raises gives MODEL_FAILED with the class and the line of its error; its words stay in BentoML's log."""
    runtime = await _runtime(models, backend, "custom model")

    with pytest.raises(PlatformError) as caught:
        await runtime.predict([["boom", datetime(2024, 1, 1), b"", True]])  # noqa: DTZ001

    assert caught.value.reason == errors_pb2.ERROR_REASON_MODEL_FAILED
    assert f"RuntimeError at integration/test_bentoml_backend.py:{BOOM_LINE}" in caught.value.message
    assert "secret" not in caught.value.message


async def test_unknown_version_is_an_artifact_that_is_gone(backend: BentomlBackend) -> None:
    """A version that the registry does not have gives MODEL_ARTIFACT_MISSING."""
    with pytest.raises(PlatformError) as caught:
        await backend.predict("tiers", 99, {"size": [1.0], "visits": [1]})

    assert caught.value.reason == errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING


async def test_files_that_are_gone_are_told(tracking_uri: str, backend: BentomlBackend) -> None:
    """A version whose files were deleted gives MODEL_ARTIFACT_MISSING."""
    import mlflow

    with mlflow.start_run():
        _log_classifier(mlflow)
    client = mlflow.MlflowClient()
    version = max(int(one.version) for one in client.search_model_versions("name = 'tiers'"))
    files = mlflow.artifacts.download_artifacts(client.get_model_version_download_uri("tiers", str(version)))
    assert Path(files).is_relative_to(Path(tracking_uri.removeprefix("sqlite:///")).parent)
    shutil.rmtree(files)

    with pytest.raises(PlatformError) as caught:
        await backend.load("tiers", version)

    assert caught.value.reason == errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING


async def test_deadline_goes_along(backend: BentomlBackend) -> None:
    """A request that the deadline cuts off gives DEADLINE_EXCEEDED, not an unavailable backend."""
    loop = asyncio.get_running_loop()

    async def hurried() -> None:
        import time

        set_deadline(time.monotonic() + 0.002)
        await backend.predict("tiers", 1, {"size": [1.0] * 1000, "visits": [1] * 1000})

    with pytest.raises(PlatformError) as caught:
        await loop.create_task(hurried())

    assert caught.value.reason == errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED


async def test_pickle_is_refused(url: str) -> None:
    """The service takes JSON; BentoML's pickle content type is refused."""
    async with httpx.AsyncClient() as http:
        response = await http.post(
            f"{url}/load", content=b"\x80\x04N.", headers={"Content-Type": "application/vnd.bentoml+pickle"}
        )

    assert response.status_code == 415


@asynccontextmanager
async def _served(models: Models, url: str, name: str, folder: Path) -> AsyncIterator[AsyncMLPlatform]:
    """A client of a server whose engine runs a version in this BentoML."""
    house = House(folder, bentoml=url)
    house.registry.versions["m", 1] = await models.get_version(name, 1)
    house.deployments.activate("m", 1, runtime=deployments_pb2.SERVING_RUNTIME_BENTOML)
    async with running(house), AsyncMLPlatform(f"http://127.0.0.1:{house.frame.server.port}", house.frame.key) as client:
        yield client


async def _with_params(client: AsyncMLPlatform, params: dict[str, Any] | None) -> dict[str, Any]:
    """The prediction for 1.0, or the error, in each form."""
    found: dict[str, Any] = {}
    forms: dict[str, Any] = {"rows": [{"x": 1.0}], "frame": pd.DataFrame({"x": [1.0]})}
    try:
        found["alone"] = await client.predict("m", {"x": 1.0}, params=params)
    except MLPlatformError as error:
        found["alone"] = error
    for form, rows in forms.items():
        try:
            (found[form],) = await client.predict_many("m", rows, params=params)
        except MLPlatformError as error:
            found[form] = error
    async for answer in client.predict_stream("m", [{"x": 1.0}], params=params):
        found["stream"] = answer.prediction or answer.error
    return found


async def test_params_of_the_signature_can_be_sent(models: Models, url: str, tmp_path: Path) -> None:
    """A request's params reach the model in their types, in every form; the others, and the next request, have their defaults."""
    async with _served(models, url, "scaled", tmp_path) as client:
        default = await _with_params(client, None)
        sent = await _with_params(client, {"factor": 5, "add": [2**53 + 1, -(2**53)], "word": "ab"})
        after = await _with_params(client, {})

    assert {form: answer.prediction for form, answer in sent.items()} == dict.fromkeys(("alone", "rows", "frame", "stream"), 8.0)
    assert {form: answer.prediction for form, answer in after.items()} == {
        form: answer.prediction for form, answer in default.items()
    }


async def test_params_that_do_not_fit_are_refused(models: Models, url: str, tmp_path: Path) -> None:
    """An unknown param, and one of another type, is refused by its name, in every form."""
    async with _served(models, url, "scaled", tmp_path) as client:
        for params, told in (
            ({"faktor": 5.0}, "params.faktor: is no param of the model"),
            ({"faktor": 5.0}, "Did you mean factor: you sent faktor?"),
            ({"factor": "much"}, "params.factor: expected a number, got text"),
            ({"add": 1}, "params.add: expected a list, got a number"),
            ({"add": [2.0**53]}, "params.add: got a number that is 2^53 or larger"),
        ):
            for form, error in (await _with_params(client, params)).items():
                assert (form, error.reason, told in error.message) == (form, "INPUT_INVALID", True)


async def test_open_inference_takes_params_as_parameters(models: Models, url: str, tmp_path: Path) -> None:
    """A parameter that is a param of the signature is handed to the model; one that is not is refused."""
    house = House(tmp_path, bentoml=url)
    house.registry.versions["m", 1] = await models.get_version("scaled", 1)
    house.deployments.activate("m", 1, runtime=deployments_pb2.SERVING_RUNTIME_BENTOML)
    async with running(house):
        for rows in (1, 2):
            request = raw_request("m", [("x", "FP64", np.ones(rows))])
            request.parameters["factor"].double_param = 2.0**53
            answer = numbers(await call_inference(house, "ModelInfer", request))
            assert answer["prediction"][1].tolist() == [2.0**53 + 2**53 + 2] * rows
        request.parameters["priority"].int64_param = 1
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call_inference(house, "ModelInfer", request)
    assert rich_error(caught.value).fields == ("parameters.priority",)
