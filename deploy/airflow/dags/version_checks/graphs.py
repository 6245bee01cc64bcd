"""Puts a converter's graph into the form that the platform's server feeds: an input a column, outputs as callers know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from version_checks.fields import Field, NotConvertible

OPERATORS = 18
"""The operators' version: new enough for every converter, and old enough for the runtimes of some years."""

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
_INSIDE = "model/"
_MATRIX = "matrix"


@dataclass(frozen=True)
class Output:
    """One output: which of the converter's, what it is called, and what is done to it."""

    source: str
    name: str
    column: int | None = None
    """The only column that counts; None for all."""
    kind: int = 0
    """The type that it is turned into; 0 for its own."""


def type_of(field: Field, precision: int) -> int:
    """The type of the tensor for a column. Whole numbers that may be missing go in with fractions: only those know NaN."""
    if field.kind == "string":
        return int(TensorProto.STRING)
    if field.fractional or not field.required:
        return precision
    return int(TensorProto.BOOL if field.kind == "boolean" else TensorProto.INT64)


def assemble(
    converted: onnx.ModelProto, fields: Sequence[Field], *, precision: int, matrix: bool, outputs: Sequence[Output]
) -> onnx.ModelProto:
    """The graph with an input for each field.

    Args:
        converted: the converter's graph, of one matrix or of an input for each field, in their order.
        fields: what the version takes.
        precision: FLOAT or DOUBLE, for numbers with fractions.
        matrix: whether the converter's graph takes a matrix.
        outputs: what the graph is to give, in this order.

    Raises:
        NotConvertible: an output is called like an input.
    """
    if clash := {field.name for field in fields} & {output.name for output in outputs}:
        raise NotConvertible(f"It gives an output that is called like one of its inputs: {', '.join(sorted(clash))}.")
    inner = compose.add_prefix(converted, _INSIDE)
    inputs = [helper.make_tensor_value_info(field.name, type_of(field, precision), [None, field.width or 1]) for field in fields]
    head = _side_by_side(inner, fields, precision) if matrix else _one_by_one(inner, fields)
    tail, infos, constants = _ends(inner, outputs)
    body, more = _without_sigmoids(inner)
    constants += more
    initializers = [*inner.graph.initializer, *constants]
    graph = helper.make_graph([*head, *body, *tail], "version", inputs, infos, initializer=initializers)
    return helper.make_model(graph, functions=inner.functions, opset_imports=_opsets(inner), ir_version=max(inner.ir_version, 8))


def _side_by_side(inner: onnx.ModelProto, fields: Sequence[Field], precision: int) -> list[onnx.NodeProto]:
    """The columns, in one type, beside each other."""
    (matrix,) = inner.graph.input
    wanted = matrix.type.tensor_type.elem_type
    nodes, names = [], []
    for at, field in enumerate(fields):
        name = field.name
        if type_of(field, precision) != wanted:
            name = f"{_MATRIX}/{at}"
            nodes.append(helper.make_node("Cast", [field.name], [name], to=wanted))
        names.append(name)
    return [*nodes, helper.make_node("Concat", names, [matrix.name], axis=1)]


def _one_by_one(inner: onnx.ModelProto, fields: Sequence[Field]) -> list[onnx.NodeProto]:
    """Each column to the input at its place: converters give inputs names of their own."""
    given = zip(fields, inner.graph.input, strict=True)
    return [helper.make_node("Identity", [field.name], [entry.name]) for field, entry in given]


def _ends(
    inner: onnx.ModelProto, outputs: Sequence[Output]
) -> tuple[list[onnx.NodeProto], list[onnx.ValueInfoProto], list[onnx.TensorProto]]:
    types = {entry.name: entry.type.tensor_type.elem_type for entry in inner.graph.output}
    nodes, infos, constants = [], [], []
    for at, output in enumerate(outputs):
        source, kind = f"{_INSIDE}{output.source}", output.kind or types[f"{_INSIDE}{output.source}"]
        if output.column is not None:
            place = f"place/{at}"
            constants.append(numpy_helper.from_array(np.array([output.column], np.int64), place))
            nodes.append(helper.make_node("Gather", [source, place], [output.name], axis=1))
        elif kind == TensorProto.STRING:
            nodes.append(helper.make_node("Identity", [source], [output.name]))
        else:
            # To its own type too: converters do not always give what they declare.
            nodes.append(helper.make_node("Cast", [source], [output.name], to=kind))
        infos.append(helper.make_tensor_value_info(output.name, kind, None))
    return nodes, infos, constants


def _without_sigmoids(inner: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The nodes, with exp in place of every Sigmoid: ONNX Runtime's takes small probabilities from one and so loses them."""
    nodes: list[onnx.NodeProto] = []
    one = numpy_helper.from_array(np.array(1.0), f"{_INSIDE}one")
    for at, node in enumerate(inner.graph.node):
        if node.op_type != "Sigmoid":
            nodes.append(node)
            continue
        opposite, power, typed, total = (f"{_INSIDE}sigmoid/{at}/{step}" for step in ("opposite", "power", "one", "total"))
        nodes += [
            helper.make_node("Neg", [*node.input], [opposite]),
            helper.make_node("Exp", [opposite], [power]),
            helper.make_node("CastLike", [one.name, power], [typed]),
            helper.make_node("Add", [power, typed], [total]),
            helper.make_node("Reciprocal", [total], [*node.output]),
        ]
    return nodes, [one] if len(nodes) > len(inner.graph.node) else []


def _opsets(*parts: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """One of each domain: converters name some twice."""
    newest: dict[str, int] = {}
    for opset in (opset for part in parts for opset in part.opset_import):
        newest[opset.domain] = max(opset.version, newest.get(opset.domain, 0))
    # Converters name the oldest version that has their operators, for which this one stands just as well.
    newest[""] = max(OPERATORS, newest.get("", 0))
    return [helper.make_opsetid(domain, version) for domain, version in newest.items()]
