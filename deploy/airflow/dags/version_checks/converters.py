"""Converts estimators: trees with the converters of this package, everything else with skl2onnx."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import onnx
from onnx import TensorProto

from version_checks import graphs
from version_checks.estimators import Estimator, looks_at_neighbours, rounding_of_votes, takes_columns
from version_checks.fields import Field, NotConvertible
from version_checks.graphs import Output
from version_checks.trees import converters as trees
from version_checks.trees.nodes import ML, TREES, Graph, settled
from version_checks.trees.registered import register

MATRIX = "X"
PROBABILITY = "probability"
LONGEST = 200
MOST_ROUNDING = 3e-4
"""Of what a support vector machine decides by: its classes lie some units apart, so one row in 100,000 is that close to both."""

Names = Sequence[str]
Inputs = Sequence[tuple[str, int, int]]
"""The names, types and widths of what a converter's graph takes."""


class Way(NamedTuple):
    """How a graph computes: in 32 or 64 bits, and with the trees of which version of ai.onnx.ml (see trees/nodes.py)."""

    precision: int
    trees_version: int

    @property
    def versions(self) -> dict[str, int]:
        """The operators' versions by domain."""
        return {"": graphs.OPERATORS, ML: self.trees_version}


SEPARATE_LEAVES, SHARED_LEAVES, SINGLE = Way(graphs.DOUBLE, 5), Way(graphs.DOUBLE, 3), Way(graphs.FLOAT, 3)


def ways(estimator: Estimator) -> tuple[Way, ...]:
    """The ways to try, the likeliest first."""
    if estimator.library == "xgboost" and estimator.steps is None:
        return (Way(graphs.FLOAT, 5),)
    if estimator.booster:
        return (SEPARATE_LEAVES,)
    if estimator.shared_leaves:
        # The leaves of version 5 have one number each, so each class needs a copy of the trees.
        return SHARED_LEAVES, SEPARATE_LEAVES, SINGLE
    return SEPARATE_LEAVES, SHARED_LEAVES, SINGLE


def convert(estimator: Estimator, fields: Sequence[Field], *, prediction: str, way: Way) -> onnx.ModelProto:
    """A graph that gives what MLflow gives for the version.

    Args:
        estimator: what is converted.
        fields: what it takes.
        prediction: what its answer is called.
        way: how precisely it reckons.

    Raises:
        NotConvertible: there is no converter for it or for something in it.
    """
    if looks_at_neighbours(estimator.model):
        raise NotConvertible(f"{estimator.name} does not convert: a graph would take other rows of those that are equally near.")
    if (off := rounding_of_votes(estimator.model)) > MOST_ROUNDING:
        raise NotConvertible(f"{estimator.name} does not convert: in 32 bits what it decides by would be up to {off:.1g} off.")
    matrix = not takes_columns(estimator.model) and len({field.numeric for field in fields}) == 1
    precision = way.precision
    inputs = _matrix(fields, precision) if matrix else [(field.name, graphs.type_of(field, precision), 1) for field in fields]
    try:
        inner = _booster(estimator, inputs, way) if estimator.booster else _by_skl2onnx(estimator, inputs, way)
    except NotConvertible:
        raise
    except Exception as error:  # the converters raise whatever comes to their minds
        raise NotConvertible(f"{estimator.name} does not convert: {_first_line(error)}") from error
    given = [output.name for output in inner.graph.output]
    outputs = [Output(given[0], prediction)] if estimator.booster else _of_estimator(estimator, given, prediction)
    return graphs.assemble(inner, fields, precision=precision, matrix=matrix, outputs=outputs)


def _matrix(fields: Sequence[Field], precision: int) -> Inputs:
    kind = precision if fields[0].numeric else int(TensorProto.STRING)
    return [(MATRIX, kind, sum(field.width or 1 for field in fields))]


def _by_skl2onnx(estimator: Estimator, inputs: Inputs, way: Way) -> onnx.ModelProto:
    import skl2onnx
    from skl2onnx.common import data_types

    register()
    model, target = estimator.model, {"": graphs.OPERATORS, ML: 3, TREES: way.trees_version}
    kinds: dict[int, Any] = {
        TensorProto.FLOAT: data_types.FloatTensorType,
        TensorProto.DOUBLE: data_types.DoubleTensorType,
        TensorProto.INT64: data_types.Int64TensorType,
        TensorProto.BOOL: data_types.BooleanTensorType,
        TensorProto.STRING: data_types.StringTensorType,
    }
    types = [(name, kinds[kind]([None, width])) for name, kind, width in inputs]
    # Without it, probabilities come as a list of mappings, which is slow to read and has no type for double.
    options = {id(model): {"zipmap": False}} if estimator.classes is not None else None
    try:
        converted = skl2onnx.convert_sklearn(model, initial_types=types, options=options, target_opset=target)
    except NameError:  # The converter does not know the option, so it makes no mappings either.
        converted = skl2onnx.convert_sklearn(model, initial_types=types, target_opset=target)
    return settled(converted)


def _booster(estimator: Estimator, inputs: Inputs, way: Way) -> onnx.ModelProto:
    """A bare booster, which gives the probability of the second of two classes, or that of each of several, or a number."""
    ((name, kind, width),) = inputs
    nodes = Graph(name, kind, width, way.versions)
    if estimator.library == "xgboost":
        told, _ = trees.raw_xgboost(nodes, estimator.model, name, width)
    else:
        told = trees.raw_lightgbm(nodes, estimator.model, name, width)
    return nodes.model(told, kind)


def _of_estimator(estimator: Estimator, given: Names, prediction: str) -> list[Output]:
    """The label and the probabilities of a classifier; the first output of everything else."""
    if estimator.function == "predict_proba":
        return [Output(given[1], prediction), Output(given[1], PROBABILITY)]
    kind = getattr(getattr(estimator.classes, "dtype", None), "kind", "")
    outputs = [Output(given[0], prediction, kind=int(TensorProto.BOOL) if kind == "b" else 0)]
    if estimator.tells_probabilities and len(given) > 1:
        outputs.append(Output(given[1], PROBABILITY))
    return outputs


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:LONGEST]
