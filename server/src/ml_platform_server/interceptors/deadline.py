"""Gives each call its deadline, makes it known to everything that it waits for, and ends unary calls when it passes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable

from ml_platform_server.call import Call, set_deadline
from ml_platform_server.errors import deadline_exceeded
from ml_platform_server.method import Handler, Method, Response


class Deadline:
    """Takes the caller's deadline, or the default for a unary call that brings none.

    Args:
        default: that default, in seconds.
        timed: whether predictions get a timer too, because they wait for something before the engine has them.
    """

    def __init__(self, *, default: float, timed: bool = False) -> None:
        self._default = default
        self._timed = timed

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if method.client_streaming or method.server_streaming:
            return self._stream(continuation)
        return self._kept_by_the_engine(continuation) if method.hot_path and not self._timed else self._unary(continuation)

    def _kept_by_the_engine(self, continuation: Handler) -> Handler:
        # A timer for each call costs much. The engine has one timer for each batch; and gRPC cancels the call when the caller's
        # own deadline passes, which takes its row out of the batch.
        def handle(request: object, call: Call) -> Awaitable[Response]:
            call.deadline = time.monotonic() + self._seconds(call)
            set_deadline(call.deadline)
            return continuation(request, call)

        return handle

    def _unary(self, continuation: Handler) -> Handler:
        async def handle(request: object, call: Call) -> Response:
            seconds = self._seconds(call)
            call.deadline = time.monotonic() + seconds
            set_deadline(call.deadline)
            try:
                async with asyncio.timeout(seconds) as limit:
                    return await continuation(request, call)
            except TimeoutError:
                if limit.expired():
                    raise deadline_exceeded("The call") from None
                raise

        return handle

    def _seconds(self, call: Call) -> float:
        """Seconds that a unary call may take.

        Raises:
            PlatformError: DEADLINE_EXCEEDED when none are left. The request is not even parsed then.
        """
        remaining = call.context.time_remaining()
        if remaining is None:
            return self._default
        if remaining <= 0:
            raise deadline_exceeded("The call")
        return remaining

    def _stream(self, continuation: Handler) -> Handler:
        async def handle(request: object, call: Call) -> Response:
            # gRPC itself ends a stream at the caller's deadline. One without a deadline may go on: what it waits for has limits.
            remaining = call.context.time_remaining()
            call.deadline = math.inf if remaining is None else time.monotonic() + remaining
            set_deadline(None if remaining is None else call.deadline)
            return await continuation(request, call)

        return handle
