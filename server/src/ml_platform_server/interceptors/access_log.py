"""Writes one line a call: who called what, how it ended, and how long it took; and counts it."""

from __future__ import annotations

import time

import grpc

from ml_platform_server import logs
from ml_platform_server.call import Call
from ml_platform_server.interceptors.metrics import recorder_of
from ml_platform_server.method import Handler, Method, Response
from ml_platform_server.observability.recorders import CallMetrics


class AccessLog:
    """Logs each call when it has ended, and counts it. The errors interceptor leaves `code` and `reason` in the call's facts.

    Args:
        metrics: what counts the calls; here, because a layer of its own would cost a call more than the counting.
    """

    def __init__(self, metrics: CallMetrics | None = None) -> None:
        self._write_event = logs.event_writer()
        self._metrics = metrics or CallMetrics()

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        recorder = recorder_of(self._metrics, method)

        async def handle(request: object, call: Call) -> Response:
            recorder.started()
            start = time.perf_counter()
            ended = False
            try:
                response = await proceed(request, call)
                ended = True
                return response
            finally:
                if not ended and "code" not in call.facts:
                    call.facts["code"] = _code_of_a_caller_who_left(call)
                seconds = time.perf_counter() - start
                recorder.ended(str(call.facts.get("code", "OK")), seconds)
                self._write(method, call, seconds)

        return handle

    def _write(self, method: Method, call: Call, seconds: float) -> None:
        principal = call.principal
        event = {
            "event": "call",
            "level": "info",
            "code": "OK",
            **call.facts,
            "method": method.full_name,
            "duration_ms": round(seconds * 1000, 3),
            "request_id": call.request_id,
            "principal": principal.name,
            "key_id": principal.key_id,
        }
        # Whence is told of every call but a prediction that went well: asking gRPC for it costs more than the line.
        if not method.data_plane or event["code"] != "OK":
            event["peer"] = call.context.peer()
        self._write_event(event)


def _code_of_a_caller_who_left(call: Call) -> str:
    """A call without a status was cut off by the caller: by its will, or because its time was up."""
    late = time.monotonic() >= call.deadline
    return (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
