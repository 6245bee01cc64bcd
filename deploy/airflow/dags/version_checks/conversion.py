"""Has a version converted by a process of its own, which a model that takes too long or crashes a library takes down alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from version_checks import onnx_conversion
from version_checks.estimators import estimator_of
from version_checks.fields import NotConvertible, fields_of
from version_checks.loading import Model, named, prepare_mlflow
from version_checks.onnx_conversion import NATIVE, NOT_CONVERTIBLE, UNDECIDED, Outcome

PATIENCE = 600.0
"""Seconds that an attempt may take, however busy the machine is."""

EFFORT = 120
"""Seconds of a processor that an attempt may use."""

AGAIN = "BentoML serves it; the next deployment of this version tries again."


def known_outcome(name: str, version: int, model: Model) -> Outcome | None:
    """What is known without an attempt, from an earlier one or from the kind of the model; None if it has to be tried."""
    import mlflow

    client = mlflow.MlflowClient()
    known = onnx_conversion.read(client, name, version)
    if known is None and (known := _obvious(model)) is not None:
        onnx_conversion.write(client, name, version, known)
    return known


def _obvious(model: Model) -> Outcome | None:
    if "onnx" in model.metadata.flavors:
        return Outcome(NATIVE, "It is an ONNX model.")
    if model.metadata.get_params_schema():
        return Outcome(NOT_CONVERTIBLE, "Its signature has params, which a graph does not take.")
    try:
        fields_of(model.metadata.get_input_schema())
        estimator_of(model, model.metadata.flavors)
    except NotConvertible as reason:
        return Outcome(NOT_CONVERTIBLE, str(reason))
    return None


def attempted(name: str, version: int, patience: float = PATIENCE, effort: int = EFFORT) -> Outcome:
    """Try to convert a registered version, and record what came of it.

    A version that uses up the effort would do so again. Any other end says as much about the machine as about the version, which
    is undecided then.

    Raises:
        RuntimeError: it could not be tried, or not be recorded: the registry is away.
    """
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "outcome.json"
        command = [sys.executable, "-m", "version_checks.attempt", name, str(version), str(told), str(effort)]
        try:
            status = subprocess.run(command, env=_environment(), timeout=patience, check=False).returncode
        except subprocess.TimeoutExpired:
            return _given_up(name, version, UNDECIDED, f"Converting it took longer than {patience:g} s. {AGAIN}")
        if status == -signal.SIGXCPU:
            return _given_up(name, version, NOT_CONVERTIBLE, f"Converting it takes more than {effort} s of a processor.")
        if status < 0:
            return _given_up(name, version, UNDECIDED, f"Converting it ended with signal {-status}. {AGAIN}")
        if status:
            raise RuntimeError(f"Whether {named(name, version)} converts could not be tried; the task's log says why.")
        return Outcome(**json.loads(told.read_text()))


def _environment() -> dict[str, str]:
    """That of this process, in which the package is found; one processor is enough."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path}


def _given_up(name: str, version: int, state: str, why: str) -> Outcome:
    prepare_mlflow()
    import mlflow

    outcome = Outcome(state, why)
    onnx_conversion.write(mlflow.MlflowClient(), name, version, outcome)
    return outcome
