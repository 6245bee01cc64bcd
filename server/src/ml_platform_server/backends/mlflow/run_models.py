"""Finds the model that a run logged, with MLflow 3 or before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.mlflow import searches
from ml_platform_server.errors import PlatformError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


MOST_NAMED = 10
"""Models that an error names, the last ones logged."""


@dataclass(frozen=True, slots=True)
class RunModel:
    """A model that a run logged: its name within the run, where its files are, and its id and step if MLflow gave it an id."""

    name: str
    source: str
    model_id: str | None = None
    step: int = 0


def find(client: MlflowClient, run: Run, name: str) -> RunModel:
    """The model that the run logged under a name or with an id, or its only one if the name is empty.

    Raises:
        PlatformError: RUN_WITHOUT_MODEL, MODEL_AMBIGUOUS.
    """
    models = _logged(client, run) or _logged_before_3(run)
    fitting = [model for model in models if name in ("", model.name, model.model_id)]
    if not fitting:
        raise _without_model(run.info.run_id, name, {model.name for model in models})
    if len(fitting) > 1:
        raise _ambiguous(run.info.run_id, fitting)
    return fitting[0]


def _logged(client: MlflowClient, run: Run) -> list[RunModel]:
    """The models in the order in which they were logged. Several may have one name: checkpoints, for instance."""
    found = searches.logged_models(client, [run.info.run_id], [run.info.experiment_id])
    steps = {output.model_id: output.step for output in (run.outputs.model_outputs if run.outputs else ())}
    in_order = sorted(found, key=lambda model: (steps.get(model.model_id, 0), model.creation_timestamp))
    return [
        RunModel(str(model.name), f"models:/{model.model_id}", model.model_id, steps.get(model.model_id, 0)) for model in in_order
    ]


def _logged_before_3(run: Run) -> list[RunModel]:
    """The models by their paths. A second model at one path has replaced the files of the first."""
    history = json.loads(run.data.tags.get(searches.OLD_MODELS, "[]"))
    paths: Sequence[str] = [str(entry["artifact_path"]) for entry in history]
    return [RunModel(path, f"{run.info.artifact_uri}/{path}") for path in dict.fromkeys(paths)]


def _without_model(run_id: str, name: str, others: Iterable[str]) -> PlatformError:
    names = ", ".join(sorted(others))
    return PlatformError(
        errors_pb2.ERROR_REASON_RUN_WITHOUT_MODEL,
        f"The run {run_id!r} logged no model{f' named {name!r}; it logged {names}' if names else ''}.",
        remedy="Log a model in the run with mlflow.<flavour>.log_model, or register the model of another run.",
        resource=("run", run_id),
    )


def _ambiguous(run_id: str, models: Sequence[RunModel]) -> PlatformError:
    """The error for several models that fit. Where two have one name, their ids tell them apart."""
    count = Counter(model.name for model in models)
    listed = ", ".join(sorted(count))
    names = {model.model_id or model.name if count[model.name] > 1 else model.name: model for model in models}
    described = [
        f"{name} (named {model.name!r}, step {model.step})" if name != model.name else name for name, model in names.items()
    ]
    shown = ", ".join(sorted(described[-MOST_NAMED:]))
    more = f", and {len(described) - MOST_NAMED} before these" if len(described) > MOST_NAMED else ""
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_AMBIGUOUS,
        f"The run {run_id!r} logged several models: {shown}{more}.",
        remedy="Say which one in logged_model_name, by its name or by its id.",
        resource=("run", run_id),
        metadata={"logged_model_names": listed},
    )
