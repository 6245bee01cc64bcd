"""Writes ONNX nodes, into a graph of their own or into the container of an skl2onnx converter."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnx
from onnx import helper, numpy_helper

ML = "ai.onnx.ml"
TREES = "ml_platform.trees"
"""The domain of TreeEnsemble as long as skl2onnx has the graph in hand: it knows no version 5 of ai.onnx.ml."""


class Nodes(Protocol):
    """Adds nodes to a graph."""

    trees_version: int
    """The version of ai.onnx.ml: 5 has TreeEnsemble, 3 has TreeEnsembleRegressor, and no graph can have both."""

    def add(self, op: str, *inputs: str, domain: str = "", out: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """Add a node; give the name of its output, which is `out` if that is not empty."""

    def constant(self, values: Any) -> str:  # noqa: ANN401  # an array
        """Add a constant; give its name."""


class Graph:
    """Nodes of a graph with one input matrix."""

    def __init__(self, given: str, kind: int, width: int, versions: dict[str, int]) -> None:
        self.trees_version = versions[ML]
        self._versions = versions
        self._input = helper.make_tensor_value_info(given, kind, [None, width])
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, domain: str = "", out: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """See Nodes."""
        name = out or f"{op}/{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, values: Any) -> str:  # noqa: ANN401
        """See Nodes."""
        name = f"constant/{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def model(self, output: str, kind: int) -> onnx.ModelProto:
        """The graph that gives this output."""
        info = helper.make_tensor_value_info(output, kind, [None, None])
        graph = helper.make_graph(self._nodes, "trees", [self._input], [info], initializer=self._constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in self._versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)


class Contained:
    """Nodes of an skl2onnx converter."""

    def __init__(self, scope: Any, container: Any) -> None:  # noqa: ANN401  # skl2onnx comes without types
        self.trees_version = container.target_opset_any_domain(TREES)
        self._scope = scope
        self._container = container

    def add(self, op: str, *inputs: str, domain: str = "", out: str = "", **attributes: Any) -> str:  # noqa: ANN401
        """See Nodes."""
        name = out or self._scope.get_unique_variable_name(op.lower())
        unique = self._scope.get_unique_operator_name(op)
        if op == "TreeEnsemble":
            domain, attributes = TREES, {**attributes, "op_version": self.trees_version}
        self._container.add_node(op, [*inputs], [name], op_domain=domain, name=unique, **attributes)
        return str(name)

    def constant(self, values: Any) -> str:  # noqa: ANN401
        """See Nodes."""
        values = np.asarray(values)
        name = self._scope.get_unique_variable_name("constant")
        kind = helper.np_dtype_to_tensor_dtype(values.dtype) if values.dtype.kind != "U" else onnx.TensorProto.STRING
        self._container.add_initializer(name, kind, [*values.shape], values.ravel().tolist())
        return str(name)


def settled(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that skl2onnx is done with, with its TreeEnsembles where they belong."""
    moved = False
    for node in model.graph.node:
        if node.domain == TREES:
            node.domain, moved = ML, True
    if moved:
        others = [opset for opset in model.opset_import if opset.domain not in (ML, TREES)]
        del model.opset_import[:]
        model.opset_import.extend([*others, helper.make_opsetid(ML, 5)])
    return model
