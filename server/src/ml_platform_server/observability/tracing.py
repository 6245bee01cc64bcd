"""Traces of some calls, by OpenTelemetry. Free when off: then nothing of it is imported, and no call meets it.

Whether a call is traced is decided before anything is made for it: as the caller decided, if it says so in `traceparent`, and
else by chance. What goes on inside a call is timed where it happens and recorded afterwards (`CallTrace.add_child_span`), so that
the prediction path only checks whether there is a trace.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Protocol

from ml_platform_server.observability.recorders import CODES

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

Value = str | int | float | bool

# Failures that are the server's own; the others are answers.
_SERVERS_FAULT = {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
# How long the last spans may take to leave when the server ends.
FLUSH_SECONDS = 3.0


class TracingError(Exception):
    """Traces cannot be made as configured; the message is for the operator."""


class TracingSettings(Protocol):
    """What is configured: see the section `tracing` of the settings."""

    @property
    def endpoint(self) -> str:
        """The collector's OTLP address over gRPC."""

    @property
    def sample_ratio(self) -> float:
        """The share of calls to trace."""

    @property
    def service_name(self) -> str:
        """The service that the traces name."""


class CallTrace:
    """The trace of one call. Times are on the clock of `time.perf_counter`, in seconds."""

    __slots__ = ("_span", "_tracer", "_wall")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._wall = time.time_ns() - time.perf_counter_ns()

    @property
    def trace_id(self) -> str:
        """Its id, as traces are looked up by."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def traceparent(self) -> str:
        """The context that lets another service continue this trace."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-01"

    def add_child_span(
        self,
        name: str,
        start: float,
        end: float,
        attributes: Mapping[str, Value] | None = None,
        *,
        shared: Sequence[CallTrace] = (),
    ) -> None:
        """Tell of a part of the call that has ended.

        Args:
            name: what was done, such as "feature read".
            start: when it began.
            end: when it ended.
            attributes: what there is to say of it.
            shared: the traces of the calls that it was done for together, if it was done for several.
        """
        from opentelemetry.trace import Link, set_span_in_context  # noqa: PLC0415  # imported already, by who made the trace

        links = [Link(other._span.get_span_context()) for other in shared if other is not self]
        context = set_span_in_context(self._span)
        span = self._tracer.start_span(name, context, attributes=attributes, links=links, start_time=self._nanoseconds(start))
        span.end(self._nanoseconds(end))

    def ended(self, code: str, attributes: Mapping[str, Value]) -> None:
        """The call has ended with this status code."""
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415  # the same

        self._span.set_attribute("rpc.grpc.status_code", CODES.index(code if code in CODES else "UNKNOWN"))
        self._span.set_attributes(attributes)
        if code in _SERVERS_FAULT:
            self._span.set_status(Status(StatusCode.ERROR, code))
        self._span.end()

    def _nanoseconds(self, moment: float) -> int:
        return int(moment * 1e9) + self._wall


class SharedTrace:
    """The traces of calls that are answered together: each records everything."""

    __slots__ = ("_traces",)

    def __init__(self, traces: Sequence[CallTrace]) -> None:
        self._traces = traces

    def add_child_span(self, name: str, start: float, end: float, attributes: Mapping[str, Value] | None = None) -> None:
        """Tell of a part of their work that has ended. See CallTrace."""
        for trace in self._traces:
            trace.add_child_span(name, start, end, attributes, shared=self._traces)


def link(traces: Iterable[CallTrace | SharedTrace | None]) -> SharedTrace | None:
    """One trace for those of several calls that are traced; None if none is."""
    traced = [trace for trace in traces if isinstance(trace, CallTrace)]
    return SharedTrace(traced) if traced else None


# The trace of what the current task works for; None for most calls. Whoever works for several calls in a task of its own sets it
# to what `link` makes of theirs.
current: ContextVar[CallTrace | SharedTrace | None] = ContextVar("trace", default=None)


class Tracing:
    """Makes traces and sends them to a collector.

    Args:
        ratio: the share of calls to trace where the caller does not say.
        service_name: the service that the traces name.
        exporter: where they go.
    """

    def __init__(self, *, ratio: float, service_name: str, exporter: SpanExporter) -> None:
        self._ratio = ratio
        self._provider = _provider(service_name, exporter)
        self._tracer = self._provider.get_tracer("ml_platform_server")

    def should_sample(self, traceparent: str) -> bool:
        """Whether to trace a call that came with this."""
        if traceparent and (parent := _TRACEPARENT.fullmatch(traceparent)):
            return bool(int(parent[3], 16) & 1)
        return random.random() < self._ratio  # noqa: S311  # nobody gains by guessing it

    def begin(self, name: str, traceparent: str, attributes: Mapping[str, Value]) -> CallTrace:
        """Begin the trace of a call, as a part of its caller's if that has one."""
        from opentelemetry.trace import SpanKind  # noqa: PLC0415  # only when on

        span = self._tracer.start_span(name, _parent(traceparent), SpanKind.SERVER, attributes)
        return CallTrace(self._tracer, span)

    async def open(self) -> None:
        """Nothing to wait for: the collector need not be there."""

    async def close(self) -> None:
        """Send what is left, if the collector takes it soon."""
        closing = asyncio.get_running_loop().run_in_executor(None, self._provider.shutdown)
        await asyncio.wait([closing], timeout=FLUSH_SECONDS)

    def flush(self) -> None:
        """Send what there is now, and wait for it."""
        self._provider.force_flush()


def from_settings(settings: TracingSettings) -> Tracing | None:
    """The tracing that is configured; None if it is off.

    Raises:
        TracingError: it is on, and the libraries for it are not installed.
    """
    if not settings.endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # only when on
    except ImportError:
        raise TracingError(
            "ML_PLATFORM_TRACING__ENDPOINT is set, but OpenTelemetry is not installed: pip install 'ml-platform-server[tracing]'."
        ) from None
    exporter = OTLPSpanExporter(endpoint=settings.endpoint, insecure=not settings.endpoint.startswith("https://"), timeout=5)
    return Tracing(ratio=settings.sample_ratio, service_name=settings.service_name, exporter=exporter)


def _provider(service_name: str, exporter: SpanExporter) -> TracerProvider:
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # only when on
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415  # the same
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415  # the same
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415  # the same

    resource = Resource.create({"service.name": service_name})
    provider = TracerProvider(sampler=ALWAYS_ON, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _parent(traceparent: str) -> Context:
    from opentelemetry.context import Context  # noqa: PLC0415  # only when on
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context  # noqa: PLC0415  # the same

    parent = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if parent is None:
        return Context()
    caller = SpanContext(int(parent[1], 16), int(parent[2], 16), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(caller), Context())
