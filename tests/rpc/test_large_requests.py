"""Requests made to hold up the process: none may keep the event loop busy for long, whatever it holds and whoever sends it."""

from __future__ import annotations

import asyncio
import gc
import gzip
import math
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor

from ml_platform.v1 import experiments_pb2, features_pb2, predictions_pb2
from ml_platform_server.method import Method, methods_of
from ml_platform_server.protobuf_encoding import field as on_the_wire
from ml_platform_server.service_specs import SERVICE_SPECS
from ml_platform_server.services.open_inference import OpenInferenceService
from tests.support.errors import RichError, rich_error
from tests.support.frame import Frame, running_frame

MOST_SECONDS = 0.05
# A machine whose cores and caches others use takes up to twice the processor time for the same work, for minutes on end.
MOST_SECONDS_SHARED = 2 * MOST_SECONDS
ATTEMPTS = 5
MIB = 2**20
# What gRPC itself lets through.
LIMIT = 16 * MIB - 1024
METHODS = [
    method
    for spec in SERVICE_SPECS
    for method in methods_of(spec.service, OpenInferenceService.SCOPES)
    if method.name not in {"ServerLive", "ServerReady"}
]
LENGTH, VARINT = 2, 0


class Anything:
    """Answers every call with an empty response, and keeps the last request."""

    SCOPES = OpenInferenceService.SCOPES

    def __init__(self, methods: dict[str, Method]) -> None:
        self._methods = methods
        self.request: Any = None

    def __getattr__(self, name: str) -> Any:
        method = self._methods[name]

        async def single(request: Any, call: object) -> Any:  # as all methods
            self.request = request
            return method.response_class()

        async def stream(request: Any, call: object) -> AsyncIterator[Any]:  # as all methods
            if method.client_streaming:
                async for self.request in request:
                    yield method.response_class()
            else:
                self.request = request
                yield method.response_class()

        return stream if method.server_streaming else single


class Caller:
    """Calls from a thread of its own, so that only the server's work is on the loop."""

    def __init__(self, frame: Frame, servicers: list[Anything]) -> None:
        self.servicers = servicers
        self._metadata = frame.metadata
        self._channel = grpc.insecure_channel(f"127.0.0.1:{frame.server.port}", options=[("grpc.max_send_message_length", -1)])

    async def call(self, path: str, data: bytes, compression: grpc.Compression | None = None) -> RichError | None:
        """How a call ends: None if it ends well."""
        return await asyncio.to_thread(self._call, path, data, compression)

    def _call(self, path: str, data: bytes, compression: grpc.Compression | None) -> RichError | None:
        call: Any = self._channel.stream_stream(path)
        try:
            list(call(iter([data]), metadata=self._metadata, timeout=120, compression=compression))
        except grpc.RpcError as error:
            return rich_error(error)
        return None

    def close(self) -> None:
        self._channel.close()


@pytest.fixture
def longest(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds of processor time that the longest turn of a callback on the loop took, so far.

    Without the garbage collector, which has all the objects of the test run to look at here.
    """
    longest = [0.0]
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        start = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - start)

    monkeypatch.setattr(asyncio.Handle, "_run", timed)
    gc.disable()
    yield longest
    gc.enable()


async def shortest_turn(caller: Caller, longest: list[float], path: str, data: bytes) -> tuple[RichError | None, float]:
    """How a call ends, and how long it held the loop at most, in the best of some attempts.

    Whoever else uses the machine's processors and caches makes the same work take more processor time, never less.
    """
    best = math.inf
    for _ in range(ATTEMPTS):
        longest[0] = 0.0
        error = await caller.call(path, data)
        best = min(best, longest[0])
        if best <= MOST_SECONDS:
            break
    return error, best


@pytest.fixture
async def caller(tmp_path: Path) -> AsyncIterator[Caller]:
    servicers = [
        Anything({method.name: method for method in methods_of(spec.service, OpenInferenceService.SCOPES)})
        for spec in SERVICE_SPECS
    ]
    services = [(spec.service, servicer) for spec, servicer in zip(SERVICE_SPECS, servicers, strict=True)]
    async with running_frame(tmp_path, services) as frame:
        caller = Caller(frame, servicers)
        yield caller
        caller.close()


def tag(number: int, kind: int) -> bytes:
    """The tag of a field."""
    value = number << 3 | kind
    return bytes([value]) if value < 128 else bytes([value & 127 | 128, value >> 7])


def field(number: int, value: bytes) -> bytes:
    """A field of bytes, text or a message on the wire."""
    return on_the_wire(tag(number, LENGTH), value)


def oversized(method: Method) -> Iterator[tuple[str, bytes]]:
    """Requests of a method that take much to read: as large as it takes, and made of as many things as fit."""
    size = min(method.largest_request, LIMIT) - 64
    yield "unknown numbers", (tag(1000, VARINT) + b"\x01") * (size // 3)
    yield "unknown messages", field(1000, b"\x0a\x00" * (size // 2))
    yield "some unknown numbers", (tag(1000, VARINT) + b"\x01") * 24_900
    for each in method.request_class.DESCRIPTOR.fields:
        if each.type in {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES}:
            yield f"one long {each.name}", field(each.number, b"u" * size)
        if each.is_repeated:
            yield f"many empty {each.name}", (tag(each.number, LENGTH) + b"\x00") * (size // 2)
        if each.message_type is not None:
            yield f"one {each.name} of unknown numbers", field(each.number, (tag(1000, VARINT) + b"\x01") * (size // 3))
            yield from _nested(each, size)


def _nested(each: Any, size: int) -> Iterator[tuple[str, bytes]]:
    for inner in each.message_type.fields:
        empty = (tag(inner.number, LENGTH) + b"\x00") * (size // 2)
        yield f"one {each.name} of many empty {inner.name}", field(each.number, empty)
        if inner.message_type is not None:
            unknown = field(inner.number, (tag(1000, VARINT) + b"\x01") * (size // 3))
            yield f"one {each.name} with a {inner.name} of unknown numbers", field(each.number, unknown)
            for core in inner.message_type.fields:
                many = field(inner.number, (tag(core.number, LENGTH) + b"\x00") * (size // 2))
                yield f"one {each.name} with a {inner.name} of many empty {core.name}", field(each.number, many)
                if core.is_repeated and core.message_type is None and core.type != FieldDescriptor.TYPE_STRING:
                    packed = field(inner.number, field(core.number, b"\x01" * size))
                    yield f"one {each.name} with a {inner.name} of packed {core.name}", field(each.number, packed)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.rpartition(".")[2])
async def test_no_request_holds_the_loop(caller, longest, method):
    """Whatever a request of any method is made of, reading or refusing it takes the loop 50 ms at most at a time."""
    for what, data in oversized(method):
        error, seconds = await shortest_turn(caller, longest, method.full_name, data)
        assert error is None or error.code in {"INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}, (what, error)
        assert seconds <= MOST_SECONDS_SHARED, f"{what}: {seconds * 1000:.0f} ms"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.full_name.rpartition(".")[2])
async def test_a_request_that_is_too_large_is_refused_with_its_limit(caller, longest, method):
    """What is larger than its method takes is refused, sent as it is or compressed, and the limit is told."""
    limit = min(method.largest_request, 16 * MIB)
    text = field(1000, b"a" * limit)
    packed = gzip.compress(text)
    for data in [packed] if limit > LIMIT else [text, packed, zlib.compress(text)]:
        error, seconds = await shortest_turn(caller, longest, method.full_name, data)
        assert error is not None
        assert (*error.brief, error.metadata["limit"]) == ("RESOURCE_EXHAUSTED", "REQUEST_TOO_LARGE", str(limit))
        assert seconds <= MOST_SECONDS_SHARED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("length", [10, 1000, 500_000])
async def test_a_compressed_request_is_read(caller, compression, length):
    """A client may compress what it sends, much or little."""
    request = predictions_pb2.PredictRequest(model_name="m", environment="staging")
    request.inputs["text"] = "a" * length
    error = await caller.call("/ml_platform.v1.PredictionService/Predict", request.SerializeToString(), compression)
    assert error is None
    assert request in [servicer.request for servicer in caller.servicers]


@pytest.mark.parametrize("rows", [1, 9_000])
async def test_a_large_request_is_read_whole(caller, rows):
    """What is parsed piece by piece is the message that was sent."""
    request = features_pb2.PushFeaturesRequest(feature_view="v", request_id="r")
    for number in range(rows):
        request.rows.add().values.update({"key": f"{number:0200}", "number": number, "list": [1, 2]})
    assert await caller.call("/ml_platform.v1.FeatureService/PushFeatures", request.SerializeToString()) is None
    assert request in [servicer.request for servicer in caller.servicers]


async def test_large_columns_are_read_whole(caller):
    """Columns of numbers, texts and vectors may be as large as a message."""
    request = predictions_pb2.BatchPredictRequest(model_name="m", environment="staging")
    request.columns.add(name="vectors").values.vectors.values.extend([0.5] * 1_000_000)
    request.columns[0].values.vectors.length = 100
    request.columns.add(name="texts").values.strings.values.extend(["t" * 400] * 10_000)
    request.columns.add(name="numbers").values.integers.values.extend([2**62] * 10_000)
    assert await caller.call("/ml_platform.v1.PredictionService/BatchPredict", request.SerializeToString()) is None
    assert request in [servicer.request for servicer in caller.servicers]


async def test_too_many_rows_are_counted_before_they_are_parsed(caller):
    """Millions of empty rows are refused by their number, which is told as far as it was counted."""
    data = field(1, b"y") + b"\x12\x00" * 7_000_000
    error = await caller.call("/ml_platform.v1.FeatureService/PushFeatures", data)
    assert error is not None
    assert (error.brief, error.fields) == (("INVALID_ARGUMENT", "INVALID_FIELDS"), ("rows",))


@pytest.mark.parametrize(
    ("path", "number", "name"),
    [
        ("/inference.GRPCInferenceService/ModelInfer", 1, "model_name"),
        ("/ml_platform.v1.FeatureService/GetOnlineFeatures", 1, "features"),
        ("/ml_platform.v1.ExperimentService/ListRuns", 5, "page_token"),
    ],
)
async def test_a_name_of_megabytes_is_refused(caller, path, number, name):
    """A name that is longer than any is not looked up, and so not quoted either."""
    error = await caller.call(path, field(number, b"n" * 900_000))
    assert error is not None
    assert (error.brief, error.fields) == (("INVALID_ARGUMENT", "INVALID_FIELDS"), (name,))


async def test_too_many_inputs_are_refused(caller):
    """No model has hundreds of thousands of inputs, and finding out one by one that they are unknown takes long."""
    request = predictions_pb2.PredictRequest(model_name="m", environment="staging")
    request.inputs.update({f"i{number}": 1 for number in range(100_000)})
    error = await caller.call("/ml_platform.v1.PredictionService/Predict", request.SerializeToString())
    assert error is not None
    assert (error.brief, error.fields) == (("INVALID_ARGUMENT", "INVALID_FIELDS"), ("inputs",))


@pytest.mark.parametrize("data", [b"\x12\x00" * 40_000 + b"\x12", b"\x12\xff\xff\xff\x7f" + b"a" * 70_000, b"\x0b" * 70_000])
async def test_large_bytes_that_are_no_message_are_refused(caller, data):
    """What cannot be parsed is an INVALID_ARGUMENT at any size."""
    error = await caller.call("/ml_platform.v1.FeatureService/PushFeatures", data)
    assert error is not None
    assert error.brief == ("INVALID_ARGUMENT", "INVALID_FIELDS")


async def test_a_long_text_in_an_error_is_cut(caller, longest):
    """What a caller sent comes back in an error only as far as it helps."""
    request = experiments_pb2.GetExperimentRequest(name="n" * 900_000)
    error = await caller.call("/ml_platform.v1.ExperimentService/GetExperiment", request.SerializeToString())
    assert error is not None
    assert len(error.message) < 2000
    assert longest[0] <= MOST_SECONDS_SHARED


def nested(value: Any) -> list[tuple[str, Any]]:
    """Requests that hold a value within a Struct, or a list of values."""
    predict = predictions_pb2.PredictRequest(model_name="m", environment="staging")
    batch = predictions_pb2.BatchPredictRequest(model_name="m", environment="staging")
    columns = predictions_pb2.BatchPredictRequest(model_name="m", environment="staging")
    push = features_pb2.PushFeaturesRequest(feature_view="v")
    predict.inputs["a"] = value
    batch.rows.add()["a"] = value
    columns.columns.add(name="a").values.any.extend([value])
    push.rows.add().values["a"] = value
    service = "/ml_platform.v1.PredictionService"
    return [
        (f"{service}/Predict", predict),
        (f"{service}/BatchPredict", batch),
        (f"{service}/BatchPredict", columns),
        ("/ml_platform.v1.FeatureService/PushFeatures", push),
    ]


@pytest.mark.parametrize(
    "value",
    [[None] * 110_000, {f"k{number}": 1 for number in range(11_000)}, [{"k": 1}] * 55_000, [[[None]]] * 40_000],
    ids=["nulls", "entries", "small objects", "lists of lists"],
)
async def test_values_within_one_input_are_counted(caller, longest, value):
    """What one input holds is counted at any depth, and refused before it is made into Python's values."""
    for path, request in nested(value):
        error, seconds = await shortest_turn(caller, longest, path, request.SerializeToString())
        assert error is not None
        assert error.brief == ("INVALID_ARGUMENT", "INVALID_FIELDS")
        assert error.fields[0].partition("[")[0] in {"inputs", "rows", "columns"}
        assert seconds <= MOST_SECONDS_SHARED


async def test_many_lists_in_one_input_are_weighed(caller, longest):
    """Lists that are each too small to be counted take long to parse if they are many in what cannot be cut."""
    values = field(6, (b"\x0a\x00") * 19_000)  # an empty Value is smaller than any that a client would send
    for count in (20, 80, 300):
        row = field(1, b"".join(field(1, field(1, b"k%d" % number) + field(2, values)) for number in range(count)))
        data = field(1, b"m") + field(3, row)
        error, seconds = await shortest_turn(caller, longest, "/ml_platform.v1.PredictionService/BatchPredict", data)
        assert error is not None
        assert error.brief == ("INVALID_ARGUMENT", "INVALID_FIELDS")
        assert seconds <= MOST_SECONDS_SHARED


@pytest.mark.parametrize("value", [[None] * 49_000, {f"k{number}": 1 for number in range(9_900)}, [{"k": 1}] * 24_000])
async def test_values_within_the_limits_are_read_whole(caller, value):
    """As many as the limits allow arrive as they were sent."""
    for path, request in nested(value):
        assert await caller.call(path, request.SerializeToString()) is None
        assert request in [servicer.request for servicer in caller.servicers]
