"""Writes one line a call: who called what, how it ended, and how long it took."""

from __future__ import annotations

import time

import grpc
import structlog
from google.protobuf.message import Message

from ml_platform_server.call import Call
from ml_platform_server.method import Handler, Method


class AccessLog:
    """Logs each call when it has ended. The errors interceptor leaves `code` and `reason` in the call's facts."""

    def __init__(self) -> None:
        # Bound once: finding the configuration anew for every call costs as much as the line.
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger().bind()

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""

        async def handle(request: object, call: Call) -> Message | None:
            start = time.perf_counter()
            ended = False
            try:
                response = await proceed(request, call)
                ended = True
                return response
            finally:
                if not ended and "code" not in call.facts:
                    call.facts["code"] = _code_of_a_caller_who_left(call)
                self._write(method, call, time.perf_counter() - start)

        return handle

    def _write(self, method: Method, call: Call, seconds: float) -> None:
        usual = {
            "method": method.full_name,
            "duration_ms": round(seconds * 1000, 3),
            "request_id": call.request_id,
            "principal": call.principal.name,
            "key_id": call.principal.key_id,
            "peer": call.context.peer(),
        }
        self._log.info("call", **{"code": "OK", **call.facts, **usual})


def _code_of_a_caller_who_left(call: Call) -> str:
    """A call without a status was cut off by the caller: by its will, or because its time was up."""
    late = time.monotonic() >= call.deadline
    return (grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED).name
