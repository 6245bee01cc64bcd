"""Requests of the Open Inference Protocol, and what the answers say."""

from __future__ import annotations

import struct
from typing import Any, cast

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from benchmarks import tensors
from benchmarks.model import Facts
from ml_platform_server.open_inference import ModelInferRequest, ModelInferResponse

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
# As a server tells its clients of columns of these kinds.
DATATYPES = {"b": "BOOL", "i": "INT64", "f": "FP64", "O": "BYTES"}
OUTPUT = "probabilities"


def request(facts: Facts, rows: int, *, model: str, start: int = 0) -> Message:
    """Everything that the model takes, a tensor a column, of some rows of the sample."""
    made: Any = ModelInferRequest(model_name=model)
    for name, array in tensors.arrays(facts, start + rows).items():
        chosen = array[start:]
        made.inputs.add(name=name, datatype=DATATYPES[facts.columns[name]], shape=[rows, 1])
        made.raw_input_contents.append(_raw(chosen))
    return cast("Message", made)


def probabilities(answer: bytes) -> list[float]:
    """The probability of fraud for each row, out of an answer."""
    reply = ModelInferResponse.FromString(answer)
    at = [output.name for output in reply.outputs].index(OUTPUT)
    output = reply.outputs[at]
    if reply.raw_output_contents:
        kind = {"FP32": np.float32, "FP64": np.float64}[output.datatype]
        values = np.frombuffer(reply.raw_output_contents[at], dtype=kind)
    else:
        values = np.array(output.contents.fp32_contents or output.contents.fp64_contents)
    return [float(each) for each in values.reshape(list(output.shape))[:, 1]]


def _raw(array: NDArray[Any]) -> bytes:
    if array.dtype == np.float32:
        return array.astype(np.float64).tobytes()
    if array.dtype != np.object_:
        return array.tobytes()
    texts = [str(each).encode() for each in array]
    return b"".join(struct.pack("<I", len(each)) + each for each in texts)
