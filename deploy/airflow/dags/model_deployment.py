"""Checks a registered model version before traffic moves to it. The platform's server starts it and acts on how it ends.

Configuration: `deployment_id`, `model_name`, `version`, `environment` ("staging" or "production"). Its tasks find
MLFLOW_TRACKING_URI and, for models that BentoML runs, BENTOML_URL in the environment. Any MLflow flavour will do.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import dag, get_current_context, task

Model = Any
"""An MLflow pyfunc model."""

Data = Any
"""What models take and give: tables, arrays, or lists and dicts of them."""

LOAD_PATIENCE = 120.0
"""Seconds that BentoML may take to load a model."""

ONES: dict[str, Any] = {
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "boolean": True,
    "string": "a",
    "datetime": "2024-01-01T00:00:00",
}
"""A value for each type of column, for models that were logged without an example. Ones, because logarithms dislike zeros."""

TELLING = frozenset({"integer", "long", "float", "double", "boolean", "datetime"})
"""Types of which any value should do. A made-up text may be a category that the model never saw, so a failure proves nothing."""

CODES = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}
"""Types that pandas would not choose by itself."""

ARRAYS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}
"""The arrays that the inputs of an ONNX graph take."""


@task
def load_version() -> dict[str, Any]:
    """Fetch the version's files, load it, and ask it once; tells what it is and what it answered.

    Loading MLflow and a model takes seconds of a processor. So one process does all that needs them, and the tasks after it,
    each of which is a process too, judge what came out.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, path = loaded(folder)
        signature = model.metadata.signature
        inputs = signature.inputs.to_dict() if signature and signature.inputs else []
        example = own_example(model, path)
        version = {"flavors": sorted(model.metadata.flavors), "inputs": inputs, "example": as_columns(example)}
        return version | asked(model, path, inputs, example)


@task
def check_signature(version: dict[str, Any]) -> None:
    """See that the version says what it takes, and that its example is of that kind."""
    if not version["inputs"]:
        raise ValueError(f"There is no signature in {name_of_version()}: log the model again with signature= or input_example=.")
    if version["example"] is None:
        print("There is no input example to compare with the signature.")
        return
    needed = [column["name"] for column in version["inputs"] if column.get("name") and column.get("required", True)]
    missing = [name for name in needed if name not in version["example"]]
    if missing:
        raise ValueError(f"The input example of {name_of_version()} lacks columns of its signature: {', '.join(missing)}.")


@task
def smoke_predict(version: dict[str, Any]) -> None:
    """See that the version answered, with something, and with nothing but numbers that are numbers."""
    if version["fault"]:
        raise ValueError(f"Asked for a prediction, {name_of_version()} {version['fault']}.")
    if version["doubt"] and conf()["environment"] == "production":
        raise ValueError(
            f"Asked for a prediction, {name_of_version()} {version['doubt']}. That may be the row's fault, so staging takes the "
            "version and production does not: log the model with input_example=, so that it can be asked with a row of its own."
        )
    print(f"It answered: {version['answer'] or version['doubt']}")


@task
def warm_serving(version: dict[str, Any]) -> None:
    """Have BentoML load the version and answer once; ONNX models need no BentoML."""
    if "onnx" in version["flavors"]:
        print("There is nothing to do: ONNX models run in the platform's own process.")
        return
    this = {"model_name": conf()["model_name"], "version": conf()["version"]}
    ask_bentoml("/load", this)
    if version["example"]:
        answer = ask_bentoml("/predict_batch", {**this, "columns": version["example"]})["outputs"]
        if fault := fault_of(answer):
            raise ValueError(f"Asked for a prediction in BentoML, {name_of_version()} {fault}.")


@dag(
    dag_id="model_deployment",
    schedule=None,
    catchup=False,
    max_active_runs=16,
    dagrun_timeout=timedelta(minutes=30),
    default_args={"retries": 0},
    tags=["ml-platform"],
)
def model_deployment() -> None:
    """Load the version, check its signature, ask it for a prediction, and have the serving side load it."""
    version: Any = load_version()
    check_signature(version) >> smoke_predict(version) >> warm_serving(version)


def conf() -> dict[str, Any]:
    """What the run was given."""
    return get_current_context()["dag_run"].conf or {}


def name_of_version() -> str:
    """The version, for a person."""
    return f"version {conf()['version']} of '{conf()['model_name']}'"


def loaded(folder: str) -> tuple[Model, Path]:
    """The version, loaded, and where its files are."""
    # A registry or store that is down should fail the check in a minute, not in ten.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    import mlflow

    try:
        uri = f"models:/{conf()['model_name']}/{conf()['version']}"
        path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
    except Exception as error:
        raise FileNotFoundError(f"The files of {name_of_version()} cannot be fetched: {error}") from error
    if not (path / "MLmodel").is_file():
        raise FileNotFoundError(f"The files of {name_of_version()} are gone from the artifact store.")
    try:
        return mlflow.pyfunc.load_model(str(path)), path
    except Exception as error:
        raise ValueError(f"Loading {name_of_version()} fails: {error}") from error


def own_example(model: Model, path: Path) -> Data | None:
    """The first row of the example that the model was logged with, or None."""
    try:
        example = model.metadata.load_input_example(str(path))
    except Exception as error:  # noqa: BLE001  # an example that cannot be read is as good as none
        print(f"The input example cannot be read: {error}")
        return None
    return example.head(1) if hasattr(example, "head") else example


def answer_of(model: Model, path: Path, given: Data) -> Data:
    """What the version says.

    An ONNX graph is asked as the platform's server asks it: MLflow hands on the columns of a table without the second dimension
    that converters give them, so it fails on graphs that are in order.
    """
    if "onnx" not in model.metadata.flavors or not hasattr(given, "columns"):
        return model.predict(given)
    import onnxruntime

    graph = path / model.metadata.flavors["onnx"]["data"]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) == 1 and inputs[0].name not in given.columns:
        return session.run(None, {inputs[0].name: given.to_numpy(ARRAYS[inputs[0].type])})
    feeds = {each.name: given[each.name].to_numpy(ARRAYS[each.type]).reshape(-1, *(1 for _ in each.shape[1:])) for each in inputs}
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, feeds), strict=True))


def as_columns(example: Data) -> dict[str, list[Any]] | None:
    """An example as lists of JSON values by column, as the serving side takes rows; None if it is of another shape."""
    if hasattr(example, "to_json"):
        split = json.loads(example.to_json(orient="split", date_format="iso"))
        return {str(name): [row[at] for row in split["data"]] for at, name in enumerate(split["columns"])}
    if hasattr(example, "tolist"):
        return {"input": example.tolist()}
    if isinstance(example, dict) and all(hasattr(values, "tolist") for values in example.values()):
        return {name: values.tolist() for name, values in example.items()}
    return None


def asked(model: Model, path: Path, inputs: list[dict[str, Any]], example: Data | None) -> dict[str, str]:
    """The model's `answer` to its own example, or to a row made up from its signature, and the `fault` or the `doubt` in it."""
    nothing = {"answer": "", "fault": "", "doubt": ""}
    if not inputs:
        return {**nothing, "doubt": "was not asked, for nobody knows what it takes"}
    try:
        answer = answer_of(model, path, made_up(inputs) if example is None else example)
    except Exception as error:  # noqa: BLE001  # the model is somebody else's code and may raise anything
        if example is None and any(column["type"] not in TELLING for column in inputs):
            return {**nothing, "doubt": f"fails on a made-up row: {error}"}
        what = "a made-up row of ones" if example is None else "its own input example"
        return {**nothing, "fault": f"fails on {what}: {error}"}
    return {**nothing, "answer": shown(answer), "fault": fault_of(answer)}


def made_up(inputs: list[dict[str, Any]]) -> Data:
    """A row that fits a signature, as good as it can be guessed."""
    import numpy as np
    import pandas as pd

    tensors = {column.get("name", ""): column["tensor-spec"] for column in inputs if column["type"] == "tensor"}
    if tensors:
        arrays = {name: np.ones([max(1, size) for size in spec["shape"]], spec["dtype"]) for name, spec in tensors.items()}
        return arrays if all(arrays) else next(iter(arrays.values()))
    row = pd.DataFrame({column.get("name", at): [ONES.get(column["type"])] for at, column in enumerate(inputs)})
    return row.astype({row.columns[at]: CODES[column["type"]] for at, column in enumerate(inputs) if column["type"] in CODES})


def fault_of(answer: Data) -> str:
    """What is wrong with a prediction; empty if nothing is."""
    values = list(leaves(answer))
    if not values:
        return "gives an empty prediction"
    if any(value is None or (isinstance(value, float) and not math.isfinite(value)) for value in values):
        return f"gives a prediction that is not finite: {shown(answer)}"
    return ""


def shown(answer: Data) -> str:
    """A prediction, as far as it fits on a line."""
    return " ".join(str(answer).split())[:200]


def leaves(value: Data) -> Iterator[object]:
    """The single values in whatever a model returns: a table, an array, or lists and dicts of them."""
    if hasattr(value, "to_dict"):
        value = value.to_dict("list") if hasattr(value, "columns") else list(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def ask_bentoml(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask BentoML."""
    url = os.environ.get("BENTOML_URL", "http://127.0.0.1:3000")
    request = urllib.request.Request(  # noqa: S310  # the operator's own URL
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LOAD_PATIENCE) as answer:  # noqa: S310  # the same
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"BentoML cannot serve {name_of_version()}: {reason_of(error)}") from error
    except OSError as error:
        raise ConnectionError(f"BentoML, which is to serve {name_of_version()}, does not answer at {url}.") from error


def reason_of(error: urllib.error.HTTPError) -> str:
    """What BentoML says went wrong."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"


model_deployment()
