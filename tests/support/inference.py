"""Requests of the Open Inference Protocol, and small ONNX graphs that take columns."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ml_platform.v1 import models_pb2
from ml_platform_server import open_inference as oip
from ml_platform_server.serving.open_inference.datatypes import DTYPES, FIELDS
from tests.support.predictions import House
from tests.support.serving import save_onnx

Array = npt.NDArray[Any]
Tensor = tuple[str, str, Array]


def echo_graph(types: Mapping[str, int], *, word: str = "") -> onnx.ModelProto:
    """A graph with one input of shape [N, 1] a column, which gives each of them back, and a word for each row if there is one."""
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in types]
    inputs = [helper.make_tensor_value_info(name, kind, [None, 1]) for name, kind in types.items()]
    outputs = [helper.make_tensor_value_info(f"{name}_out", kind, [None, 1]) for name, kind in types.items()]
    constants = []
    if word:
        nodes += [
            helper.make_node("Shape", [next(iter(types))], ["size"]),
            helper.make_node("Expand", ["word", "size"], ["word_out"]),
        ]
        outputs.append(helper.make_tensor_value_info("word_out", TensorProto.STRING, [None, 1]))
        constants.append(helper.make_tensor("word", TensorProto.STRING, [1, 1], [word.encode()]))  # type: ignore[list-item]  # its stub knows no text
    graph = helper.make_graph(nodes, "echo", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def classifier_graph() -> onnx.ModelProto:
    """A graph of two inputs side by side that gives a label and two probabilities."""
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["p"], keepdims=1, axes=[1]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])]
    graph = helper.make_graph(nodes, "classifier", inputs, outputs, [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=8)


def deploy(house: House, graph: onnx.ModelProto, inputs: Sequence[models_pb2.ColumnSpec], refs: Sequence[str] = ()) -> None:
    """Deploy a graph as the model "m"."""
    files = save_onnx(house.folder / "model", graph)
    house.registry.add("m", 1, inputs, files, feature_refs=refs)
    house.deployments.activate("m", 1)


def raw_request(model: str, tensors: Sequence[Tensor], *, outputs: Sequence[str] = (), **more: Any) -> Any:
    """A request with its elements as bytes."""
    request = _request(model, tensors, outputs, more)
    for _, datatype, array in tensors:
        request.raw_input_contents.append(_packed(array) if datatype == "BYTES" else array.astype(DTYPES[datatype]).tobytes())
    return request


def typed_request(model: str, tensors: Sequence[Tensor], *, outputs: Sequence[str] = (), **more: Any) -> Any:
    """A request with its elements in typed fields."""
    request = _request(model, tensors, outputs, more)
    for made, (_, datatype, array) in zip(request.inputs, tensors, strict=True):
        things = array.reshape(-1).tolist()
        getattr(made.contents, FIELDS[datatype]).extend([thing.encode() for thing in things] if datatype == "BYTES" else things)
    return request


def _request(model: str, tensors: Sequence[Tensor], outputs: Sequence[str], more: Mapping[str, Any]) -> Any:
    request = oip.ModelInferRequest(model_name=model, **more)
    for name, datatype, array in tensors:
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    for name in outputs:
        request.outputs.add(name=name)
    return request


def _packed(array: Array) -> bytes:
    elements = [str(thing).encode() for thing in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


async def call_inference(house: House, method: str, request: Any, *, metadata: Any = None) -> Any:
    """Call a method of the protocol."""
    descriptor = oip.SERVICE.methods_by_name[method]
    stub: Any = house.frame.channel.unary_unary(
        f"/inference.GRPCInferenceService/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=oip.message(descriptor.output_type.name).FromString,
    )
    return await stub(request, metadata=house.frame.metadata if metadata is None else metadata, timeout=10)


def numbers(response: Any) -> dict[str, tuple[str, Array]]:
    """Each output's datatype and elements by name."""
    found = {}
    for at, output in enumerate(response.outputs):
        raw = response.raw_output_contents[at] if response.raw_output_contents else None
        found[output.name] = (output.datatype, _elements(output, raw).reshape(list(output.shape)))
    return found


def _elements(output: Any, raw: bytes | None) -> Array:
    if raw is None:
        things = list(getattr(output.contents, FIELDS[output.datatype]))
        if output.datatype != "BYTES":
            return np.array(things, DTYPES[output.datatype])
        return np.array([thing.decode() for thing in things], np.object_)
    if output.datatype != "BYTES":
        return np.frombuffer(raw, DTYPES[output.datatype])
    texts = []
    while raw:
        length = struct.unpack_from("<I", raw)[0]
        texts.append(raw[4 : 4 + length].decode())
        raw = raw[4 + length :]
    return np.array(texts, np.object_)
