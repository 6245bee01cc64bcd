"""Requests with many rows, and how their answers are told to be right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

from google.protobuf.message import Message

from benchmarks import bare_onnx, inference, model, tensors
from benchmarks.deployments import PRODUCTION
from benchmarks.model import Facts
from ml_platform.v1 import predictions_pb2
from ml_platform.v1.predictions_pb2 import ColumnValues, InputColumn

TOLERANCE = 1e-6


@dataclass(frozen=True)
class Request:
    """One call. `trouble` says what is wrong with its answer; nothing if all is well."""

    method: str
    message: Message
    trouble: Callable[[bytes], str]


def batch_predict(facts: Facts, rows: int) -> Request:
    """BatchPredict by columns: what a caller knows, and the users whose features are looked up."""
    given = tensors.columns(facts, rows)
    keys = list(islice(cycle(facts.keys), rows))
    message = predictions_pb2.BatchPredictRequest(model_name=model.ONNX_MODEL, environment=PRODUCTION)
    message.columns.append(InputColumn(name="user_id", values=_values("O", keys)))
    message.columns.extend(InputColumn(name=name, values=_values(facts.columns[name], given[name])) for name in facts.sent)

    def trouble(answer: bytes) -> str:
        reply = predictions_pb2.BatchPredictResponse.FromString(answer)
        if reply.errors or len(reply.probabilities) != rows:
            return f"{len(reply.probabilities)} predictions and {len(reply.errors)} errors for {rows} rows"
        return ""

    return Request("/ml_platform.v1.PredictionService/BatchPredict", message, trouble)


def _values(kind: str, values: list[Any]) -> ColumnValues:
    """A column of a kind, given as NumPy's letter for it."""
    match kind:
        case "b":
            return ColumnValues(booleans=predictions_pb2.BoolValues(values=values))
        case "i":
            return ColumnValues(integers=predictions_pb2.Int64Values(values=values))
        case "f":
            return ColumnValues(doubles=predictions_pb2.DoubleValues(values=values))
        case _:
            return ColumnValues(strings=predictions_pb2.StringValues(values=values))


def model_infer(facts: Facts, rows: int) -> Request:
    """ModelInfer: everything that the model takes, as raw tensors."""
    expected = bare_onnx.probabilities(facts, rows)

    def trouble(answer: bytes) -> str:
        found = inference.probabilities(answer)
        if len(found) != rows or any(abs(one - two) > TOLERANCE for one, two in zip(found, expected, strict=True)):
            return f"{len(found)} probabilities for {rows} rows, or others than ONNX Runtime gives"
        return ""

    return Request(inference.MODEL_INFER, inference.request(facts, rows, model=model.ONNX_MODEL), trouble)


KINDS: dict[str, Callable[[Facts, int], Request]] = {"batch_predict": batch_predict, "model_infer": model_infer}
