"""Finds the model that a run logged, with MLflow 3 or before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.mlflow import searches
from ml_platform_server.errors import PlatformError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model that a run logged: its name within the run, where its files are, and its id if MLflow gave it one."""

    name: str
    source: str
    model_id: str | None = None


def find(client: MlflowClient, run: Run, name: str) -> RunModel:
    """The model that the run logged under a name, or its only one if the name is empty.

    Raises:
        PlatformError: RUN_WITHOUT_MODEL, MODEL_AMBIGUOUS.
    """
    models = _logged(client, run) or _logged_before_3(run)
    fitting = [model for model in models.values() if name in ("", model.name)]
    if not fitting:
        raise _without_model(run.info.run_id, name, models)
    if len(fitting) > 1:
        raise _ambiguous(run.info.run_id, models)
    return fitting[0]


def _logged(client: MlflowClient, run: Run) -> dict[str, RunModel]:
    found = searches.logged_models(client, [run.info.run_id], [run.info.experiment_id])
    steps = {output.model_id: output.step for output in (run.outputs.model_outputs if run.outputs else ())}
    # Of several models of one name, checkpoints for instance, the last one counts.
    in_order = sorted(found, key=lambda model: (steps.get(model.model_id, 0), model.creation_timestamp))
    return {str(model.name): RunModel(str(model.name), f"models:/{model.model_id}", model.model_id) for model in in_order}


def _logged_before_3(run: Run) -> dict[str, RunModel]:
    history = json.loads(run.data.tags.get(searches.OLD_MODELS, "[]"))
    paths: Sequence[str] = [str(entry["artifact_path"]) for entry in history]
    return {path: RunModel(path, f"{run.info.artifact_uri}/{path}") for path in paths}


def _without_model(run_id: str, name: str, others: Iterable[str]) -> PlatformError:
    names = ", ".join(sorted(others))
    return PlatformError(
        errors_pb2.ERROR_REASON_RUN_WITHOUT_MODEL,
        f"The run {run_id!r} logged no model{f' named {name!r}; it logged {names}' if names else ''}.",
        remedy="Log a model in the run with mlflow.<flavour>.log_model, or register the model of another run.",
        resource=("run", run_id),
    )


def _ambiguous(run_id: str, names: Iterable[str]) -> PlatformError:
    listed = ", ".join(sorted(names))
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_AMBIGUOUS,
        f"The run {run_id!r} logged several models: {listed}.",
        remedy="Say which one in logged_model_name.",
        resource=("run", run_id),
        metadata={"logged_model_names": listed},
    )
