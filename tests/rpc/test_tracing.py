"""Traces, with OpenTelemetry's own SDK, real calls, and a collector that takes OTLP over gRPC."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.errors import PlatformError
from ml_platform_server.interceptors.access_log import AccessLog
from ml_platform_server.interceptors.correlation_id import CorrelationId
from ml_platform_server.interceptors.errors import Errors
from ml_platform_server.interceptors.tracing import Traces
from ml_platform_server.observability.tracing import CallTrace, SharedTrace, Tracing, current, from_settings, link
from ml_platform_server.settings import TracingSettings
from tests.support.echo import KINDS, NAME, Echo, EchoClient, EchoService
from tests.support.observed import echo_behind

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


class Traced:
    """A traced echo service, a client of it, and the spans that it made."""

    def __init__(self, ratio: float) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(ratio=ratio, service_name="tests", exporter=self.exporter)
        self.service = EchoService()
        self.client: EchoClient

    async def call(self, kind: str = "Unary", *requests, traceparent: str = "", **options) -> None:
        metadata = (("x-request-id", "mine"), *((("traceparent", traceparent),) if traceparent else ()))
        await self.client.call(kind, *(requests or (Echo(text="a"),)), metadata=metadata, **options)

    async def spans(self, count: int = 1) -> list[ReadableSpan]:
        """The spans that ended, as soon as they are so many: a caller may have its answer before the span has its end."""
        for _ in range(500):
            self.tracing.flush()
            if len(self.exporter.get_finished_spans()) >= count:
                break
            await asyncio.sleep(0.01)
        return list(self.exporter.get_finished_spans())


@pytest.fixture
def ratio() -> float:
    return 1.0


@pytest.fixture
async def traced(ratio: float) -> AsyncIterator[Traced]:
    traced = Traced(ratio)
    interceptors = (CorrelationId(), Traces(traced.tracing), AccessLog(), Errors())
    async with echo_behind(interceptors, traced.service) as channel:
        traced.client = EchoClient(channel)
        yield traced
    await traced.tracing.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_is_one_span(traced, kind):
    """Every kind of call makes one span of the server's side, with what RPC spans have everywhere and the correlation id."""
    await traced.call(kind)
    (span,) = await traced.spans()
    assert (span.name, span.kind, span.parent) == (f"{NAME}/{kind}", SpanKind.SERVER, None)
    assert dict(span.attributes) == {
        "rpc.system": "grpc",
        "rpc.service": NAME,
        "rpc.method": kind,
        "rpc.grpc.status_code": 0,
        "ml_platform.correlation_id": "mine",
    }
    assert span.resource.attributes["service.name"] == "tests"
    assert abs(span.end_time - time.time_ns()) < 10e9


async def test_a_call_goes_on_with_its_callers_trace(traced):
    """The caller's span is the parent of the server's."""
    await traced.call(traceparent=SAMPLED)
    (span,) = await traced.spans()
    assert (f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}", span.parent.is_remote) == (TRACE, SPAN, True)


@pytest.mark.parametrize(("ratio", "traceparent", "count"), [(0.0, SAMPLED, 1), (1.0, UNSAMPLED, 0), (0.0, "", 0), (1.0, "", 1)])
async def test_the_caller_decides_and_chance_where_it_does_not(traced, traceparent, count):
    """A caller's decision to trace or not is kept, whatever the ratio; without one the ratio decides."""
    await traced.call(traceparent=traceparent)
    assert len(await traced.spans(count)) == count


@pytest.mark.parametrize(
    "traceparent", ["nonsense", f"ff-{TRACE}-{SPAN}-01", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", SAMPLED.upper()]
)
async def test_a_traceparent_that_makes_no_sense_is_as_none(traced, traceparent):
    """What is no traceparent starts a trace of its own."""
    await traced.call(traceparent=traceparent)
    (span,) = await traced.spans()
    assert span.parent is None


@pytest.mark.parametrize("ratio", [0.1])
async def test_the_ratio_is_the_share_of_calls(traced):
    """One call in ten, more or less, is traced at a ratio of a tenth."""
    assert 120 < sum(traced.tracing.should_sample("") for _ in range(2000)) < 290


async def test_a_call_that_fails_tells_its_code_and_reason(traced):
    """What the server is to blame for is an error; what the caller is to blame for is an answer."""
    reasons = errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE
    for reason in reasons:
        traced.service.failure = PlatformError(reason, "It failed.", remedy="None.")
        with pytest.raises(grpc.aio.AioRpcError):
            await traced.call("Unary", Echo(text="raise"))
    told = [
        (span.attributes["rpc.grpc.status_code"], span.attributes["error.type"], span.status.is_ok)
        for span in await traced.spans(2)
    ]
    assert told == [(5, "MODEL_NOT_FOUND", True), (14, "BACKEND_UNAVAILABLE", False)]


async def test_a_caller_that_leaves_ends_the_span(traced):
    """A call that its caller cancels is a span with the code CANCELLED."""
    call = traced.client.start("Unary", Echo(text="wait"), metadata=())
    await asyncio.wait_for(traced.service.waiting.wait(), 5)
    call.cancel()
    await asyncio.wait_for(traced.service.left.wait(), 5)
    (span,) = await traced.spans()
    assert span.attributes["rpc.grpc.status_code"] == 1


async def test_the_log_tells_the_trace(traced):
    """The line of a traced call bears the id that its trace is found by; other lines bear none."""
    await traced.call(traceparent=SAMPLED)
    await traced.call(traceparent=UNSAMPLED)
    assert [call.log_fields.get("trace_id") for call in traced.service.calls] == [TRACE, None]


async def test_stages_of_a_call_are_its_children(traced):
    """What is told of a part of a call is a span below the call's, at the time that it happened."""
    seen: list[CallTrace | SharedTrace | None] = []

    async def answer(request):
        trace = current.get()
        seen.append(trace)
        start = time.perf_counter()
        await asyncio.sleep(0.05)
        trace.add_child_span("feature read", start, time.perf_counter(), {"rows": 3})
        return request

    traced.service._do = answer
    await traced.call()
    child, parent = await traced.spans(2)
    assert (child.name, child.parent.span_id, child.attributes["rows"]) == ("feature read", parent.context.span_id, 3)
    assert parent.start_time <= child.start_time < child.end_time <= parent.end_time + 1_000_000
    assert 0.04e9 < child.end_time - child.start_time < 1e9
    assert f"00-{parent.context.trace_id:032x}-{parent.context.span_id:016x}-01" == seen[0].traceparent
    assert current.get() is None


async def test_a_call_to_a_backend_is_a_stage(traced):
    """What runs in a backend's pool of threads is told below the call that waits for it, by the name of what is done there."""
    pool = BlockingPool("MLflow", threads=1)

    async def get_version(number):
        return await pool.run(lambda: number)

    async def answer(request):
        await get_version(1)
        return request

    traced.service._do = answer
    await traced.call()
    pool.close()
    assert [span.name for span in await traced.spans(2)] == ["MLflow get version", f"{NAME}/Unary"]


async def test_calls_that_are_answered_together_are_linked(traced):
    """A stage that several calls share is told in each one's trace, with links to the others."""
    traces = [traced.tracing.begin(name, "", {}) for name in ("first", "second")]
    shared = link([traces[0], None, traces[1]])
    assert shared is not None
    shared.add_child_span("model run", 1.0, 2.0, {"batch.size": 2})
    for trace in traces:
        trace.ended("OK", {})
    assert link([None, None]) is None
    stages = [span for span in await traced.spans(4) if span.name == "model run"]
    assert [span.links[0].context.trace_id for span in reversed(stages)] == [span.context.trace_id for span in stages]
    assert [len(span.links) for span in stages] == [1, 1]


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what is exported to it."""

    def __init__(self) -> None:
        self.requests: list[trace_service_pb2.ExportTraceServiceRequest] = []

    def Export(self, request, context):  # noqa: N802  # named as in the contract
        self.requests.append(request)
        return trace_service_pb2.ExportTraceServiceResponse()


async def test_spans_arrive_at_a_collector():
    """With an endpoint set, the spans of a call arrive there over OTLP, at the latest when the server ends."""
    collector, service = Collector(), EchoService()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        tracing = from_settings(TracingSettings(endpoint=f"http://127.0.0.1:{port}", sample_ratio=1.0, service_name="door"))
        assert tracing is not None
        async with echo_behind((CorrelationId(), Traces(tracing), AccessLog(), Errors()), service) as channel:
            await EchoClient(channel).call("Unary", Echo(text="a"), metadata=())
        await tracing.close()
    finally:
        server.stop(None)
    (spans,) = (request.resource_spans[0] for request in collector.requests)
    assert {"service.name": "door"}.items() <= {a.key: a.value.string_value for a in spans.resource.attributes}.items()
    assert [span.name for span in spans.scope_spans[0].spans] == [f"{NAME}/Unary"]


async def test_a_collector_that_is_away_costs_no_call_and_holds_up_no_end():
    """Calls are answered while nobody takes the spans, and the server ends within seconds."""
    service = EchoService()
    tracing = from_settings(TracingSettings(endpoint="http://127.0.0.1:1", sample_ratio=1.0))
    assert tracing is not None
    async with echo_behind((CorrelationId(), Traces(tracing), AccessLog(), Errors()), service) as channel:
        assert await EchoClient(channel).call("Unary", Echo(text="a"), metadata=()) == ["a"]
        start = time.monotonic()
        await tracing.close()
    assert time.monotonic() - start < 5


def test_tracing_is_off_without_an_endpoint():
    """Nothing is made, and nothing of OpenTelemetry is loaded, where no endpoint is set."""
    assert from_settings(TracingSettings()) is None
    code = (
        "import sys; import ml_platform_server.rpc_server, ml_platform_server.interceptors.tracing; "
        "from ml_platform_server.settings import Settings; from ml_platform_server.observability.tracing import from_settings; "
        "assert from_settings(Settings().tracing) is None; "
        "assert not [name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'prometheus_client')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": os.environ["PATH"]}, timeout=60)


async def test_a_call_that_is_not_traced_passes_without_a_layer(traced):
    """For a call that is not traced the interceptor hands out the very coroutine of what comes after it."""

    async def continuation(request, call):
        return None

    awaitable = continuation(None, None)
    method: Any = SimpleNamespace(full_name="/a/b")
    call: Any = SimpleNamespace(metadata=(("traceparent", UNSAMPLED),))
    handle = Traces(traced.tracing).wrap(method, lambda request, call: awaitable)
    assert handle(None, call) is awaitable
    await awaitable
