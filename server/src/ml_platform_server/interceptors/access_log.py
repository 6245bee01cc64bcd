"""Writes one line a call: who called what, how it ended, and how long it took; and counts it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ml_platform_server import logs
from ml_platform_server.call import Call
from ml_platform_server.codes import Code
from ml_platform_server.interceptors.metrics import recorder_of
from ml_platform_server.method import Handler, Method, Response
from ml_platform_server.observability.recorders import CallMetrics

# The fields of a prediction that went well and used all that was sent; and what differs between the lines of such
# predictions.
_PREDICTED = {"model", "version", "prediction_id"}
_VARYING = {"prediction_id": "%s", "duration_ms": "%.3f", "correlation_id": "%s"}
_MOST_WRITERS = 1000
# A method that does not exist has the name that its caller chose.
_LONGEST_METHOD = 250


class AccessLog:
    """Logs each call when it has ended, and counts it.

    The errors interceptor leaves `code` and `reason` in the call's `log_fields`.

    Args:
        metrics: what counts the calls; here, because a layer of its own would cost a call more than the counting.
    """

    def __init__(self, metrics: CallMetrics | None = None) -> None:
        self._write_event = logs.event_writer()
        # For each caller and model what writes the lines of its predictions.
        self._predictions: dict[tuple[object, ...], Callable[..., None]] = {}
        self._metrics = metrics or CallMetrics()

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        recorder, write = recorder_of(self._metrics, method), self._write_hot_path if method.hot_path else self._write_call

        async def handle(request: object, call: Call) -> Response:
            recorder.started()
            start = time.perf_counter()
            ended = False
            try:
                response = await continuation(request, call)
                ended = True
                return response
            finally:
                if not ended and "code" not in call.log_fields:
                    call.log_fields["code"] = _code_of_a_caller_who_left(call)
                seconds = time.perf_counter() - start
                recorder.ended(str(call.log_fields.get("code", "OK")), seconds)
                write(call, seconds)

        return handle

    def _write_hot_path(self, call: Call, seconds: float) -> None:
        """Write the line of a prediction that went well: the same line, but for the peer, at a quarter of the cost.

        Whence it came is left out because asking gRPC for it costs more than the line.
        """
        log_fields, principal = call.log_fields, call.principal
        if log_fields.keys() != _PREDICTED:
            self._write_call(call, seconds)
            return
        about = (principal.name, principal.key_id, log_fields["model"], log_fields["version"])
        write = self._predictions.get(about)
        if write is None:
            if len(self._predictions) >= _MOST_WRITERS:
                self._predictions.clear()
            names = ("principal", "key_id", "model", "version")
            shared = {"event": "grpc_call", "level": "info", "code": "OK", "method": call.method}
            write = self._predictions[about] = logs.line_writer({**shared, **dict(zip(names, about, strict=True))}, _VARYING)
        write(log_fields["prediction_id"], seconds * 1000, call.correlation_id)

    def _write_call(self, call: Call, seconds: float) -> None:
        principal = call.principal
        event = {
            "event": "grpc_call",
            "level": "info",
            "code": "OK",
            **call.log_fields,
            "method": call.method[:_LONGEST_METHOD],
            "duration_ms": round(seconds * 1000, 3),
            "correlation_id": call.correlation_id,
            "principal": principal.name,
            "key_id": principal.key_id,
        }
        event["peer"] = call.context.peer()
        self._write_event(event)


def _code_of_a_caller_who_left(call: Call) -> str:
    """A call without a status was cut off by the caller: by its will, or because its time was up."""
    seconds = call.context.time_remaining()
    late = time.monotonic() >= call.deadline or (seconds is not None and seconds <= 0)
    return (Code.DEADLINE_EXCEEDED if late else Code.CANCELLED).name
