"""Traces some calls; in the chain only where tracing is on."""

from __future__ import annotations

from collections.abc import Awaitable

from google.protobuf.message import Message

from ml_platform_server.call import Call
from ml_platform_server.method import Handler, Method
from ml_platform_server.observability.tracing import Tracing, Value, current

# Fields that the access log and a trace have in common.
_TOLD = {
    "reason": "error.type",
    "model": "ml_platform.model",
    "version": "ml_platform.version",
    "prediction_id": "ml_platform.prediction_id",
}


class Traces:
    """Makes one span of each call that is to be traced, with the caller's as its parent.

    It stands around the access log, which writes the trace's id and the code of a call that its caller left. A call that is not
    traced passes without a coroutine of this layer.
    """

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        tracing, wanted = self._tracing, self._tracing.should_sample
        name = method.full_name.lstrip("/")
        service, _, bare = name.partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": bare}

        async def traced(request: object, call: Call) -> Message | bytes | None:
            trace = tracing.begin(name, _parent(call), {**attributes, "ml_platform.correlation_id": call.correlation_id})
            call.log_fields["trace_id"] = trace.trace_id
            current.set(trace)
            code = "CANCELLED"
            try:
                response = await continuation(request, call)
                code = "OK"
                return response
            finally:
                trace.ended(str(call.log_fields.get("code", code)), _attributes(call))

        def handle(request: object, call: Call) -> Awaitable[Message | bytes | None]:
            return traced(request, call) if wanted(_parent(call)) else continuation(request, call)

        return handle


def _parent(call: Call) -> str:
    """The caller's trace context."""
    for key, value in call.metadata:
        if key == "traceparent":
            return str(value)
    return ""


def _attributes(call: Call) -> dict[str, Value]:
    log_fields = call.log_fields
    return {name: value for key, name in _TOLD.items() if isinstance(value := log_fields.get(key), (str, int))}
