"""Counts and times each call, under the names that gRPC servers use in every language."""

from __future__ import annotations

import time

from google.protobuf.message import Message

from ml_platform.v1 import auth_pb2
from ml_platform_server.call import Call
from ml_platform_server.method import Handler, Method
from ml_platform_server.observability.recorders import UNKNOWN_METHOD, CallMetrics, CallRecorder

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


def recorder_of(metrics: CallMetrics, method: Method) -> CallRecorder:
    """The recorder of a method's calls. All methods that do not exist, whatever callers call them, have one together."""
    unknown = method.scope == auth_pb2.SCOPE_UNSPECIFIED
    name = UNKNOWN_METHOD if unknown else method.full_name
    return metrics.for_method(name, _TYPES[method.client_streaming, method.server_streaming])


class Metrics:
    """Tells each call's beginning and end to its method's recorder.

    To be put around what tells `code` in the call's facts. Whoever times each call anyway, as the access log does, can do the
    same with `recorder_of` and save a call this layer.
    """

    def __init__(self, metrics: CallMetrics) -> None:
        self._metrics = metrics

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        recorder = recorder_of(self._metrics, method)
        started, ended = recorder.started, recorder.ended

        async def handle(request: object, call: Call) -> Message | bytes | None:
            started()
            start = time.perf_counter()
            code = "CANCELLED"
            try:
                response = await proceed(request, call)
                code = "OK"
                return response
            finally:
                ended(str(call.facts.get("code", code)), time.perf_counter() - start)

        return handle
