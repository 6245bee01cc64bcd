"""Tries to make a graph of a version and records what came of it, in a process that may be ended at any time.

python -m version_checks.attempt <model name> <version> <file for the outcome> <seconds of a processor>
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from version_checks import onnx_conversion
from version_checks.estimators import Estimator, categories_of, estimator_of, rounding_of_sums
from version_checks.fields import Field, NotConvertible, Row, fields_of
from version_checks.loading import Data, Model, example_of, loaded, prepare_mlflow
from version_checks.onnx_conversion import CONVERTED, NOT_CONVERTIBLE, OUTPUT_MISMATCH, Outcome
from version_checks.refusals import PROPERTY, as_text

if TYPE_CHECKING:
    from version_checks.comparison import Comparison

SCORES = "ml_platform.scores"
"""In a graph's metadata if its numbers for a row's classes do not add up to one, but for some rows by chance."""

ABSOLUTE_ROUNDING, RELATIVE_ROUNDING = 1e-4, 1e-8
"""Of a linear model's sums: absolute, and relative to what is usual for its answers, so that those near zero are right too."""

COURTESY = 10
"""By how much an attempt steps back behind whatever serves on the same machine."""


def examine(model: Model, example: Data | None) -> tuple[Outcome, Any]:
    """Convert a version and compare; gives what came of it, and the graph if it is to be used."""
    try:
        fields = fields_of(model.metadata.get_input_schema())
        estimator = estimator_of(model, model.metadata.flavors)
        return _compared(model, estimator, fields, rows_of(example, fields))
    except NotConvertible as reason:
        return Outcome(NOT_CONVERTIBLE, str(reason)), None
    except Exception as error:  # noqa: BLE001  # models and converters raise anything, and none of it is a deployment's fault
        traceback.print_exc()
        return Outcome(NOT_CONVERTIBLE, f"The attempt to convert it failed: {' '.join(str(error).split())[:300]}"), None


def _compared(model: Model, estimator: Estimator, fields: Sequence[Field], example: Sequence[Row]) -> tuple[Outcome, Any]:
    """The first graph that answers alike; else what differs in one that does not, or why there is none."""
    from version_checks import answers, converters
    from version_checks.comparison import Comparer
    from version_checks.splits import jumps

    original = answers.Original(model, estimator, fields)
    known, places = categories_of(estimator.model, fields), jumps(estimator.model, fields, example)
    comparer = Comparer(original, estimator, fields, example, known=known, jumps=places)
    if (off := rounding_of_sums(estimator.model)) > max(ABSOLUTE_ROUNDING, RELATIVE_ROUNDING * comparer.usual()):
        raise NotConvertible(f"{estimator.name} does not convert: its terms cancel out, and rounding alone is up to {off:.1g}.")
    different: Outcome | None = None
    refusal: NotConvertible | None = None
    for way in converters.ways(estimator):
        try:
            graph = converters.convert(estimator, fields, prediction=original.output, way=way)
            found = comparer.compare(answers.loaded_graph(graph, fields))
        except NotConvertible as reason:
            refusal = refusal or reason
            continue
        if not found.fault:
            return _converted(estimator, found, graph, len(example)), graph
        message = f"{estimator.name} was converted, and the graph is not used: {found.fault}."
        different = different or Outcome(OUTPUT_MISMATCH, message, found.largest, found.rows, found.inside)
    if different is None:
        raise refusal or NotConvertible(f"{estimator.name} does not convert.")
    return different, None


def _converted(estimator: Estimator, found: Comparison, graph: Any, own: int) -> Outcome:  # noqa: ANN401
    """The outcome for a graph that is used. What the version refuses is kept with the graph."""
    import onnx

    message = (
        f"{estimator.name} was converted; it answers alike on {found.rows} rows: {own} of its own example, "
        f"{found.inside} within the range of its columns."
    )
    about: dict[str, str] = {}
    if estimator.one_against_all:
        about[SCORES] = "true"
    if found.refused:
        about[PROPERTY] = as_text(found.refused)
        message += f" What the model refuses in {', '.join(found.refused)} is refused here too."
    onnx.helper.set_model_props(graph, about)
    return Outcome(CONVERTED, message, found.largest, found.rows, found.inside)


def rows_of(example: Data | None, fields: Sequence[Field]) -> list[Row]:
    """The rows of an example, as far as it is a table or an array that fits; missing values are None."""
    if example is None:
        return []
    if fields[0].width:
        return [[row] for row in example.tolist()] if getattr(example, "ndim", 0) == 2 else []  # noqa: PLR2004  # a table
    if not hasattr(example, "columns") or any(field.required and field.name not in example.columns for field in fields):
        return []
    columns = [_plain(field, example) for field in fields]
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(field: Field, example: Data) -> list[Any]:
    if field.name not in example.columns:
        return [None] * len(example)
    types = {"boolean": bool, "string": str, "integer": int, "long": int}
    kind = types.get(field.kind, float)
    return [
        None if missing else kind(value) for value, missing in zip(example[field.name], example[field.name].isna(), strict=True)
    ]


def attempt(name: str, version: int) -> Outcome:
    """Convert a registered version, and record what came of it."""
    prepare_mlflow()
    import mlflow

    client = mlflow.MlflowClient()
    with tempfile.TemporaryDirectory() as folder:
        model, path = loaded(name, version, folder)
        outcome, graph = examine(model, example_of(model, path))
        if graph is not None:
            uri = onnx_conversion.keep_graph(client, name, version, graph=graph, model=model, folder=path)
            outcome = dataclasses.replace(outcome, model_uri=uri)
    onnx_conversion.write(client, name, version, outcome)
    return outcome


def main() -> None:
    """Run as a program."""
    os.nice(COURTESY)
    name, version, target, effort = sys.argv[1:]
    # The system ends it with SIGXCPU, and with SIGKILL if something in it ignores that.
    resource.setrlimit(resource.RLIMIT_CPU, (int(effort), int(effort) + 30))
    Path(target).write_text(json.dumps(attempt(name, int(version)).as_dict()))


if __name__ == "__main__":
    main()
