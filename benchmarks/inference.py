"""Requests of the Open Inference Protocol, and what the answers say.

The messages live in a descriptor pool of their own, so that they clash with nobody else's of the same names.
"""

from __future__ import annotations

import struct
import subprocess
from functools import cache
from typing import Any, cast

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from numpy.typing import NDArray

from benchmarks import tensors
from benchmarks.model import Facts
from deploy.local.config import ROOT
from deploy.local.layout import program

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = {"b": "BOOL", "i": "INT64", "f": "FP32", "O": "BYTES"}
OUTPUT = "probabilities"


def request(facts: Facts, rows: int, *, model: str, start: int = 0) -> Message:
    """Everything that the model takes, a tensor a column, of some rows of the sample."""
    made: Any = _message("ModelInferRequest")(model_name=model)
    for name, array in tensors.arrays(facts, start + rows).items():
        chosen = array[start:]
        made.inputs.add(name=name, datatype=DATATYPES[facts.columns[name]], shape=[rows, 1])
        made.raw_input_contents.append(_raw(chosen))
    return cast("Message", made)


def probabilities(answer: bytes) -> list[float]:
    """The probability of fraud for each row, out of an answer."""
    reply = _message("ModelInferResponse").FromString(answer)
    at = [output.name for output in reply.outputs].index(OUTPUT)
    output = reply.outputs[at]
    if reply.raw_output_contents:
        kind = {"FP32": np.float32, "FP64": np.float64}[output.datatype]
        values = np.frombuffer(reply.raw_output_contents[at], dtype=kind)
    else:
        values = np.array(output.contents.fp32_contents or output.contents.fp64_contents)
    return [float(each) for each in values.reshape(list(output.shape))[:, 1]]


def _raw(array: NDArray[Any]) -> bytes:
    if array.dtype != np.object_:
        return array.tobytes()
    texts = [str(each).encode() for each in array]
    return b"".join(struct.pack("<I", len(each)) + each for each in texts)


@cache
def _message(name: str) -> Any:  # noqa: ANN401  # a class that is made at run time
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"inference.{name}"))


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    command = [program("buf"), "build", str(ROOT / "benchmarks" / "protos"), "-o", "-"]
    image = subprocess.run(command, check=True, capture_output=True).stdout
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(image).file:
        pool.Add(file)
    return pool
