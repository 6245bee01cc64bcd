"""Knows the calls that run, so that a shutdown can wait for them, and tell those that it must cut off why."""

from __future__ import annotations

import asyncio
from typing import Any

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import Handler, Method, Response


class Shutdown:
    """Counts calls in, counts them out, and ends what is left with SHUTTING_DOWN."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._awaited = False
        self._cutting_off = False

    def wrap(self, method: Method, proceed: Handler) -> Handler:  # noqa: ARG002  # the same for every method
        """See Interceptor."""

        async def handle(request: object, call: Call) -> Response:
            if self._cutting_off:
                raise _shutting_down()
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # a coroutine always runs in a task
            self._running.add(task)
            try:
                return await proceed(request, call)
            except asyncio.CancelledError:
                if not self._cutting_off:
                    raise
                task.uncancel()
                raise _shutting_down() from None
            finally:
                self._running.discard(task)
                if self._awaited and not self._running:
                    self._idle.set()

        return handle

    async def wait_idle(self) -> None:
        """Wait until no call runs."""
        self._awaited = True
        while self._running:
            self._idle.clear()
            await self._idle.wait()

    def cut_off(self) -> None:
        """End every call that still runs, and refuse new ones."""
        self._cutting_off = True
        for task in self._running:
            task.cancel()


def _shutting_down() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_SHUTTING_DOWN,
        "The server is shutting down.",
        remedy="Call again: another server, or this one once it is back, will answer.",
        retry_after=1.0,
    )
