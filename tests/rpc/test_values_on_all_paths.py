"""What becomes of one value for a column of each type: the same, however it is sent."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import struct_pb2
from google.rpc import error_details_pb2, status_pb2
from onnx import TensorProto

from ml_platform.resources.columns import to_column
from ml_platform.v1 import predictions_pb2
from ml_platform.values import to_struct
from ml_platform_server.serving.inputs.columns import decode_columns
from ml_platform_server.struct_values import plain
from tests.support.errors import rich_error
from tests.support.inference import call_inference, echo_graph, numbers, raw_request, typed_request
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, column, save_onnx

NAN, INF = math.nan, math.inf
MOST = 2**63 - 1
LARGEST = 3.4028234663852886e38

INEXACT = "is 2^53 or larger"
TOO_WIDE = "expected a whole number of 32 bits"
GRAPHS = {
    "double": TensorProto.DOUBLE,
    "float": TensorProto.FLOAT,
    "long": TensorProto.INT64,
    "integer": TensorProto.INT32,
    "boolean": TensorProto.BOOL,
    "string": TensorProto.STRING,
}
# By type: what is sent, and what the model is given or, as Refused, what the error says. In JSON, NaN is null and infinity text.


class Refused(str):
    """A part of the message of INPUT_INVALID."""

    __slots__ = ()


CASES: dict[str, list[tuple[object, object]]] = {
    "double": [
        *((value, value) for value in (0.0, 1.5, 2.0**31, -(2.0**53), 2.0**63, 1e300)),
        *((value, value) for value in (INF, -INF)),
        *((text, float(text)) for text in ("5", "-1.5e3", "0.1", "Infinity", "9007199254740993")),
        (3, 3.0),
        *((text, Refused("expected a number, got text")) for text in ("", "five", "1_000", "0x10", " 5")),
        *((text, Refused(f"at most 64 characters, got one of {len(text)}")) for text in ("1" * 65, "-" + "1" * 309)),
        *((text, Refused("expected a number within the range of a double")) for text in ("1e999", "-" + "1" * 400)),
        (True, Refused("expected a number, got true or false")),
        (None, Refused("must not be null")),
        ([1.0], Refused("expected a number, got a list")),
    ],
    "float": [
        *((value, value) for value in (0.0, 1.5, 2.0**63, LARGEST, INF, -INF)),
        ("0.5", 0.5),
        (LARGEST * 1.0001, Refused("within the range of a 32-bit float")),
        ("1e39", Refused("within the range of a 32-bit float")),
        (False, Refused("expected a number, got true or false")),
    ],
    "long": [
        *((value, value) for value in (0, -1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, MOST, -(2**63))),
        *((str(value), value) for value in (5, -(2**53) - 1, MOST, -(2**63))),
        *((value, int(value)) for value in (-0.0, 3.0, 2.0**53 - 1, 1 - 2.0**53)),
        *((value, Refused(INEXACT)) for value in (2.0**53, -(2.0**53), 2.0**63, 1e300)),
        *((str(value), Refused("expected a whole number of 64 bits")) for value in (2**63, -(2**63) - 1)),
        *((value, Refused("got infinity")) for value in (INF, -INF)),
        (1.5, Refused("got one with a fraction")),
        *((value, Refused("must not be null")) for value in (NAN, None)),
        *((text, Refused("expected a whole number, got text")) for text in ("1.0", "", "1e3")),
        *((text, Refused("expected a whole number of 64 bits")) for text in ("9" * 21, "-" + "1" * 400)),
        (True, Refused("expected a whole number, got true or false")),
    ],
    "integer": [
        *((value, value) for value in (0, 2**31 - 1, -(2**31))),
        *((value, Refused(TOO_WIDE)) for value in (2**31, -(2**31) - 1, 2.0**31, 2**53, str(2**31), MOST)),
        ("-7", -7),
        (2.0**53, Refused(INEXACT)),
        (NAN, Refused("must not be null")),
    ],
    "boolean": [
        *((value, bool(value)) for value in (True, False, 1.0, 0.0, 1, 0)),
        *((value, Refused("expected true or false, got a number")) for value in (2.0, 2, 2.0**53, INF)),
        ("true", Refused("expected true or false, got text")),
        *((value, Refused("must not be null")) for value in (NAN, None)),
    ],
    "string": [
        *((value, value) for value in ("", "a", "5", "ü", "NaN", "a\0b", "\0")),
        *((value, Refused("expected text, got a number")) for value in (1.0, 5, INF)),
        (True, Refused("expected text, got true or false")),
        *((value, Refused("must not be null")) for value in (NAN, None)),
    ],
}

Ask = Callable[[House, str, Any], Awaitable[object]]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path)) as house:
        for kind, element in GRAPHS.items():
            house.registry.add(kind, 1, [column("x", kind)], save_onnx(tmp_path / kind, echo_graph({"x": element})))
            house.deployments.activate(kind, 1)
        yield house


def _inputs(value: object) -> struct_pb2.Struct:
    """The value as the client sends it."""
    return to_struct({"x": value}, "inputs")


def _refusal(status: status_pb2.Status) -> Refused:
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    assert info.reason == "INPUT_INVALID"
    return Refused(status.message)


async def _predict(house: House, kind: str, value: object) -> object:
    request = predictions_pb2.PredictRequest(model_name=kind, environment=PRODUCTION, inputs=_inputs(value))
    return plain((await house.stub.Predict(request, metadata=house.frame.metadata)).prediction)


async def _stream(house: House, kind: str, value: object) -> object:
    request = predictions_pb2.StreamPredictRequest(id="1", model_name=kind, environment=PRODUCTION, inputs=_inputs(value))
    call = house.stub.StreamPredict(iter([request]), metadata=house.frame.metadata)
    answer = await call.read()
    if answer.HasField("error"):
        return _refusal(answer.error)
    return plain(answer.prediction.prediction)


async def _rows(house: House, kind: str, value: object) -> object:
    request = predictions_pb2.BatchPredictRequest(model_name=kind, environment=PRODUCTION, rows=[_inputs(value)] * 2)
    first, second = (await house.stub.BatchPredict(request, metadata=house.frame.metadata)).results
    assert first == second
    if first.HasField("error"):
        return _refusal(first.error)
    return plain(first.prediction.prediction)


async def _columns(house: House, kind: str, value: object) -> object:
    request = predictions_pb2.BatchPredictRequest(
        model_name=kind, environment=PRODUCTION, columns=[to_column("x", [value, value])]
    )
    reply = await house.stub.BatchPredict(request, metadata=house.frame.metadata)
    if reply.errors:
        assert [error.row for error in reply.errors] == [0, 1]
        return _refusal(reply.errors[0].error)
    first, second = (await decode_columns(reply.outputs))[0]["x_out"].plain()
    assert repr(first) == repr(second)
    return first


def _inferred(rows: int, make: Callable[..., Any]) -> Ask:
    async def infer(house: House, kind: str, value: object) -> object:
        datatype = {float: "FP64", int: "INT64", bool: "BOOL", str: "BYTES"}[type(value)]
        array = np.array([value] * rows, np.object_ if datatype == "BYTES" else None)
        reply = await call_inference(house, "ModelInfer", make(kind, [("x", datatype, array)]))
        first, *others = numbers(reply)["x_out"][1].tolist()
        assert all(repr(first) == repr(other) for other in others)
        return first

    return infer


PATHS: dict[str, Ask] = {"predict": _predict, "stream": _stream, "rows": _rows, "columns": _columns}
TENSORS: dict[str, Ask] = {
    f"tensor, {rows} rows, {make.__name__}": _inferred(rows, make) for rows in (1, 2) for make in (raw_request, typed_request)
}


async def _outcome(path: Ask, house: House, kind: str, value: object) -> object:
    try:
        return await path(house, kind, value)
    except grpc.aio.AioRpcError as error:
        rich = rich_error(error)
        if rich.reason != "INPUT_INVALID":
            raise
        return Refused(rich.message)


def _alike(expected: object, found: object, path: str) -> bool:
    if isinstance(expected, Refused):
        return isinstance(found, Refused) and expected in found and "inputs.x" in found
    if isinstance(found, Refused):
        return False
    if path in ("predict", "stream", "rows") and isinstance(expected, float) and not math.isfinite(expected):
        return found == {"nan": None, "inf": "Infinity", "-inf": "-Infinity"}[str(expected)]
    if isinstance(expected, int) and isinstance(found, str):
        return abs(expected) >= 2**53 and str(expected) == found
    return expected == found and (isinstance(expected, bool) == isinstance(found, bool))


@pytest.mark.parametrize("kind", CASES)
async def test_a_value_means_the_same_on_every_path(house: House, kind: str) -> None:
    """Each value reaches the model as it is, or is refused in the same words, as object, row, column, stream and tensor."""
    wrong = []
    for value, expected in CASES[kind]:
        paths = PATHS if value is None or isinstance(value, list) else {**PATHS, **TENSORS}
        for name, path in paths.items():
            found = await _outcome(path, house, kind, value)
            if not _alike(expected, found, name):
                wrong.append((name, value, expected, found))

    assert not wrong


@pytest.mark.parametrize("value", [2**60 + 2**36 + 1, -(2**60) - 2**36 - 1, 2**24 + 1, 2**53 + 1, MOST])
async def test_an_integer_means_the_same_to_a_graph_of_floats_on_every_path(house: House, value: int) -> None:
    """It is rounded once or twice, but in the same way, in a lone row as in a column."""
    graph = echo_graph({"x": TensorProto.FLOAT})
    house.registry.add("rounded", 1, [column("x", "long")], save_onnx(house.folder / "rounded", graph))
    house.deployments.activate("rounded", 1)
    found = {name: await _outcome(path, house, "rounded", value) for name, path in {**PATHS, **TENSORS}.items()}
    assert len(set(map(repr, found.values()))) == 1, found
