"""Gives each call its request id and reads its metadata, once: reading it costs as much as the rest of the chain."""

from __future__ import annotations

import re
import secrets

import structlog
from google.protobuf.message import Message

from ml_platform_server.call import Call
from ml_platform_server.method import Handler, Method

HEADER = "x-request-id"
# Safe in a log, in a header and in a shell.
_SANE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class RequestId:
    """Takes the caller's request id or makes one, tells it to the log, and sends it back with the answer."""

    def wrap(self, method: Method, proceed: Handler) -> Handler:  # noqa: ARG002  # the same for every method
        """See Interceptor."""

        async def handle(request: object, call: Call) -> Message | None:
            for key, value in call.context.invocation_metadata() or ():
                if key == "authorization":
                    call.authorization = str(value)
                elif key == HEADER and _SANE.fullmatch(str(value)):
                    call.request_id = str(value)
            call.request_id = call.request_id or secrets.token_hex(12)
            structlog.contextvars.bind_contextvars(request_id=call.request_id)
            call.context.set_trailing_metadata(((HEADER, call.request_id),))
            return await proceed(request, call)

        return handle
