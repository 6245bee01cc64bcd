"""Probabilities that rounding has brought beyond 0 and 1, in every form in which rows are answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.onnx.runtime import OnnxRuntime, load_onnx
from ml_platform_server.serving.runtimes.onnx.tensors import FEW
from tests.support.serving import column, save_onnx


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    made = BlockingPool("ONNX Runtime", threads=1)
    yield made
    made.close()


async def _runtime(tmp_path: Path, pool: BlockingPool) -> OnnxRuntime:
    """A graph that gives [1 - x, x] for x, and the label 1."""
    nodes = [
        helper.make_node("Sub", ["one", "x"], ["other"]),
        helper.make_node("Concat", ["other", "x"], ["probability"], axis=1),
        helper.make_node("ArgMax", ["probability"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 2]),
        ],
        [helper.make_tensor("one", TensorProto.FLOAT, [1, 1], [1.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    columns = columns_of(models_pb2.ModelSignature(inputs=[column("x", "float")]))
    return await load_onnx(save_onnx(tmp_path, model), columns, pool)


@pytest.mark.parametrize("rows", [1, FEW - 1, FEW, 40])
async def test_what_rounding_brought_beyond_the_edge_is_the_edge(tmp_path: Path, pool: BlockingPool, rows: int) -> None:
    """The one probability is there, and the list of all holds nothing negative, for few rows, for many, and by columns."""
    runtime = await _runtime(tmp_path, pool)
    values = [1.0000001, -1.19e-07, 0.25, 1.5][: max(1, min(4, rows))]
    given = [values[at % len(values)] for at in range(rows)]
    expected = {1.0000001: (1.0, [0.0, 1.0]), -1.19e-07: (0.0, [1.0, 0.0]), 0.25: (0.25, [0.75, 0.25]), 1.5: (None, [-0.5, 1.5])}

    said = await runtime.predict([[value] for value in given])
    found = await runtime.predict_columns([np.array(given, np.float32)], rows)

    assert [(answer.probability, answer.outputs["probability"]) for answer in said] == [expected[value] for value in given]
    assert found.probabilities is not None
    told = [None if np.isnan(each) else each for each in found.probabilities().tolist()]
    listed = np.asarray(found.outputs["probability"]).tolist()
    assert list(zip(told, listed, strict=True)) == [expected[value] for value in given]
