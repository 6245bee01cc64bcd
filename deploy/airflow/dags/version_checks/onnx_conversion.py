"""What became of the attempt to make a graph of a version, kept as tags of the version, and the graph as a model of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONVERTED, NOT_CONVERTIBLE, OUTPUT_MISMATCH, NATIVE = "converted", "not_convertible", "output_mismatch", "native"
UNDECIDED = "undecided"
"""The attempt was ended before it came to anything. The next deployment tries again."""

TAGS = "ml_platform.onnx."
NAME = "onnx"
"""What the graph's model is called."""

METHOD = "4"
"""Which way of converting and comparing an outcome comes from: what an older one came to is tried again."""

LONGEST = 1000


@dataclass(frozen=True)
class Outcome:
    """What became of it, in the words of the contract's OnnxConversion."""

    state: str
    message: str
    largest_difference: float | None = None
    rows_compared: int = 0
    rows_in_range: int = 0
    model_uri: str = ""

    @property
    def in_process(self) -> bool:
        """Whether the platform's server itself runs the version."""
        return self.state in (CONVERTED, NATIVE)

    def tags(self) -> dict[str, str]:
        """As tags."""
        told = {
            "state": self.state,
            "message": self.message[:LONGEST],
            "largest_difference": "" if self.largest_difference is None else repr(self.largest_difference),
            "rows_compared": str(self.rows_compared),
            "rows_in_range": str(self.rows_in_range),
            "model_uri": self.model_uri,
            "method": METHOD,
        }
        return {f"{TAGS}{name}": value for name, value in told.items()}

    def as_dict(self) -> dict[str, Any]:
        """As tasks hand it on."""
        return dataclasses.asdict(self)


def read(client: Any, name: str, version: int) -> Outcome | None:  # noqa: ANN401  # MlflowClient
    """What an earlier attempt came to; None if there was none, if it was ended midway, or if its graph is gone or outdated."""
    tags = client.get_model_version(name, str(version)).tags
    if tags.get(f"{TAGS}state", UNDECIDED) == UNDECIDED or tags.get(f"{TAGS}method") != METHOD:
        return None
    told = {
        field: tags.get(f"{TAGS}{field}", "")
        for field in ("state", "message", "largest_difference", "rows_compared", "rows_in_range", "model_uri")
    }
    outcome = Outcome(
        state=told["state"],
        message=told["message"],
        largest_difference=float(told["largest_difference"]) if told["largest_difference"] else None,
        rows_compared=int(told["rows_compared"] or 0),
        rows_in_range=int(told["rows_in_range"] or 0),
        model_uri=told["model_uri"],
    )
    return outcome if outcome.state != CONVERTED or _loads(outcome.model_uri) else None


def write(client: Any, name: str, version: int, outcome: Outcome) -> None:  # noqa: ANN401
    """Keep an outcome with the version. The state comes last: who sees it sees the rest."""
    tags = outcome.tags()
    for key in sorted(tags, key=lambda key: key.endswith(".state")):
        client.set_model_version_tag(name, str(version), key, tags[key])


def keep_graph(
    client: Any,  # noqa: ANN401
    name: str,
    version: int,
    *,
    graph: Any,  # noqa: ANN401  # onnx.ModelProto, which takes a second to import
    model: Any,  # noqa: ANN401  # an MLflow pyfunc model
    folder: Path,
) -> str:
    """Log a graph as a model of its own, with the signature and the example of the version; gives its URI.

    It belongs to no run: a run's models are those that the run logged, and whoever registers one should find no other.
    """
    import mlflow

    about = {"ml_platform.model_name": name, "ml_platform.model_version": str(version)}
    kept = client.create_logged_model(experiment_id=_experiment(client, name, version), name=NAME, tags=about)
    # MLflow tries the example on the graph, in a form that the graph does not take, and says that this failed: nobody need worry.
    with _quiet("mlflow"):
        mlflow.onnx.log_model(
            graph,
            name=NAME,
            model_id=kept.model_id,
            signature=model.metadata.signature,
            input_example=_example(model, folder),
            onnx_execution_providers=["CPUExecutionProvider"],
            pip_requirements=["onnx", "onnxruntime"],
        )
    return f"models:/{kept.model_id}"


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _example(model: Any, folder: Path) -> Any:  # noqa: ANN401
    try:
        return model.metadata.load_input_example(str(folder))
    except Exception:  # noqa: BLE001  # one that cannot be read is as good as none
        return None


def _experiment(client: Any, name: str, version: int) -> str:  # noqa: ANN401
    """That of the run that trained the version, if it is there, and else MLflow's own first one."""
    from mlflow.exceptions import MlflowException

    run_id = client.get_model_version(name, str(version)).run_id
    try:
        experiment = client.get_experiment(client.get_run(run_id).info.experiment_id) if run_id else None
    except MlflowException:
        experiment = None
    alive = experiment is not None and experiment.lifecycle_stage == "active"
    return str(experiment.experiment_id) if alive and experiment is not None else "0"


def _loads(uri: str) -> bool:
    """Whether a graph is still there and in order."""
    import tempfile

    import mlflow
    import onnxruntime

    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=folder))
            graph = path / mlflow.models.Model.load(str(path)).flavors["onnx"]["data"]
            onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  # whatever is wrong with it, it is made anew
        return False
    return True
