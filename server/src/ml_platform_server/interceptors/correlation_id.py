"""Gives each call its correlation id."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Awaitable

from ml_platform_server.call import CORRELATION_ID_HEADER, Call, set_correlation_id
from ml_platform_server.method import Handler, Method, Response

# What makes the ids of this process its own; counting is cheaper than drawing a random number for each call.
_PROCESS = secrets.token_hex(8)
_COUNT = itertools.count(1)
# Safe in a log, in a header and in a shell.
_SANE = re.compile(r"[A-Za-z0-9._:/-]{1,128}")


class CorrelationId:
    """Takes the caller's correlation id or makes one, sets it for the log, and returns it with the response."""

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        # One more header costs a prediction a tenth of its time, and its response has an id of its own. Errors have both ids.
        returned = not method.data_plane

        def handle(request: object, call: Call) -> Awaitable[Response]:
            if not call.correlation_id or not _SANE.fullmatch(call.correlation_id):
                call.correlation_id = f"{_PROCESS}{next(_COUNT):08x}"
            set_correlation_id(call.correlation_id)
            if returned:
                call.context.set_trailing_metadata(((CORRELATION_ID_HEADER, call.correlation_id),))
            return continuation(request, call)

        return handle
