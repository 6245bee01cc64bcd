"""Checks a registered model version before traffic moves to it. The platform's server starts it and acts on how it ends.

Configuration: `deployment_id`, `model_name`, `version`, `environment` ("staging" or "production"). Its tasks find
MLFLOW_TRACKING_URI and, for models that BentoML runs, BENTOML_URL in the environment; ML_PLATFORM_HEAVY_TASKS says how many
of each heavy task run at once (else as many as there are processors, at least two). Any MLflow flavour will do; models of
scikit-learn, LightGBM and XGBoost are converted to ONNX if their graphs answer as they do.
"""

from __future__ import annotations

import os
import tempfile
from datetime import timedelta
from typing import Any

from airflow.sdk import dag, get_current_context, task
from version_checks import asking, conversion, doubts, loading, serving_side
from version_checks.onnx_conversion import Outcome

AT_ONCE = int(os.environ.get("ML_PLATFORM_HEAVY_TASKS") or max(2, os.cpu_count() or 1))
"""How many of each heavy task run at the same time: each takes a processor and half a gigabyte for some seconds."""

# Time limits count from a task's own start, not from the run's: however many deployments wait for a place, none of them fails for
# that. The platform's server gives up on a deployment after jobs.deployment_timeout, its waiting included.
LONG = timedelta(minutes=20)
SHORT = timedelta(minutes=5)


@task(max_active_tis_per_dag=AT_ONCE, execution_timeout=LONG)
def load_version() -> dict[str, Any]:
    """Fetch the version's files, load it, and ask it once; tells what it is and what it answered.

    Loading MLflow and a model takes seconds of a processor. So one process does all that needs them, and the tasks after it,
    each of which is a process too, judge what came out.
    """
    with tempfile.TemporaryDirectory() as folder:
        name, number = conf()["model_name"], conf()["version"]
        model, path = loading.loaded(name, number, folder)
        signature = model.metadata.signature
        inputs = signature.inputs.to_dict() if signature and signature.inputs else []
        example = loading.first_row(loading.example_of(model, path))
        known = conversion.known_outcome(name, number, model)
        version = {
            "flavors": sorted(model.metadata.flavors),
            "inputs": inputs,
            "example": loading.as_columns(example),
            "onnx_conversion": known and known.as_dict(),
        }
        asked = asking.asked(model, path, inputs, example)
        doubts.keep(name, number, asked["doubt"])
        return version | asked


@task(execution_timeout=SHORT)
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


@task(execution_timeout=SHORT)
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


@task(max_active_tis_per_dag=AT_ONCE, execution_timeout=LONG)
def convert_to_onnx(version: dict[str, Any]) -> dict[str, Any]:
    """Try to make an ONNX graph that answers as the version does, and record on the version what came of it.

    A version that does not convert is not at fault: BentoML serves it. Only a registry that is away makes this task fail.
    """
    known = version["onnx_conversion"]
    outcome = Outcome(**known) if known else conversion.attempted(conf()["model_name"], conf()["version"])
    print(f"{outcome.state}: {outcome.message}")
    return outcome.as_dict()


@task(execution_timeout=LONG)
def warm_serving(version: dict[str, Any], onnx_conversion: dict[str, Any]) -> None:
    """Have BentoML load the version and answer once; what the platform runs in its own process needs no BentoML."""
    if Outcome(**onnx_conversion).in_process:
        print("There is nothing to do: ONNX graphs run in the platform's own process.")
        return
    this = {"model_name": conf()["model_name"], "version": conf()["version"]}
    serving_side.ask_bentoml("/load", this, what=name_of_version())
    if version["example"]:
        asked = {**this, "columns": version["example"]}
        answer = serving_side.ask_bentoml("/predict_batch", asked, what=name_of_version())["outputs"]
        if fault := asking.fault_of(answer):
            raise ValueError(f"Asked for a prediction in BentoML, {name_of_version()} {fault}.")


@dag(
    dag_id="model_deployment",
    schedule=None,
    catchup=False,
    max_active_runs=16,
    default_args={"retries": 0},
    tags=["ml-platform"],
)
def model_deployment() -> None:
    """Load the version, check its signature, ask it for a prediction, convert it, and have the serving side load it."""
    version: Any = load_version()
    onnx_conversion: Any = convert_to_onnx(version)
    check_signature(version) >> smoke_predict(version) >> onnx_conversion
    warm_serving(version, onnx_conversion)


def conf() -> dict[str, Any]:
    """What the run was given."""
    return get_current_context()["dag_run"].conf or {}


def name_of_version() -> str:
    """The version, for a person."""
    return loading.named(conf()["model_name"], conf()["version"])


model_deployment()
