"""Knows the calls that run, so that a shutdown can wait for them and cut off the rest with a reason; limits count them too."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import Handler, Method, Response

# Turns of the event loop, a millisecond each or longer where it is busy, without a call: then nothing is left of what callers had
# sent before they received GOAWAY.
_QUIET_TURNS = 40
# Where calls came, gRPC's own threads may have more of them under way, and no turn of the event loop shows it.
_QUIET_SECONDS = 0.2


class Shutdown:
    """Counts calls in, counts them out, and ends what is left with SHUTTING_DOWN."""

    def __init__(self) -> None:
        self._predictions: set[asyncio.Task[Any]] = set()
        self._control: set[asyncio.Task[Any]] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._unadmitted: set[asyncio.Task[Any]] = set()
        self._idle = asyncio.Event()
        self._awaited = False
        self._refusing = False
        self._refused = 0
        self._released = asyncio.Event()
        self._cutting_off = False

    def running(self, method: Method) -> set[asyncio.Task[Any]]:
        """The calls that run now and are limited together with those of this method: predictions, control calls, or streams."""
        if method.client_streaming or method.server_streaming:
            return self._streams
        return self._predictions if method.data_plane else self._control

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        return self._counted(self.running(method), continuation)

    def wrap_unadmitted(self, continuation: Handler) -> Handler:
        """The same around calls that may still be refused, so that they do not count among those that run."""
        return self._counted(self._unadmitted, continuation)

    def _counted(self, running: set[asyncio.Task[Any]], continuation: Handler) -> Handler:

        async def handle(request: object, call: Call) -> Response:
            if self._refusing:
                self._refused += 1
                await self._released.wait()
                raise _shutting_down()
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # a coroutine always runs in a task
            running.add(task)
            try:
                return await continuation(request, call)
            except asyncio.CancelledError:
                if not self._cutting_off:
                    raise
                task.uncancel()
                raise _shutting_down() from None
            finally:
                running.discard(task)
                if self._awaited and not self._all():
                    self._idle.set()

        return handle

    async def reject_new(self, most_turns: int, at_most: float) -> None:
        """Reject new calls, and wait until none arrives any more, for so many turns of the event loop and seconds at most.

        On stop, gRPC cancels calls that it received but did not dispatch. Rejections are therefore held back until
        `release_rejected`: a caller who calls again at once would always have something under way. gRPC dispatches one call a
        turn, so turns are counted: on a busy machine, seconds may pass before all waiting calls were dispatched.
        """
        self._refusing = True
        loop = asyncio.get_running_loop()
        end = loop.time() + at_most
        before, quiet, quiet_from = self._refused, 0, -math.inf
        for _ in range(most_turns):
            await asyncio.sleep(0.001)
            quiet += 1
            if self._refused != before:
                before, quiet, quiet_from = self._refused, 0, loop.time()
            now = loop.time()
            if (quiet >= _QUIET_TURNS and now - quiet_from >= _QUIET_SECONDS) or now > end:
                break

    def release_rejected(self) -> None:
        """Send the rejections that were held back. To be called when clients receive GOAWAY."""
        self._released.set()

    async def wait_idle(self) -> None:
        """Wait until no call runs."""
        self._awaited = True
        while self._all():
            self._idle.clear()
            await self._idle.wait()

    def cancel_running(self) -> None:
        """End every call that still runs, and refuse new ones."""
        self._refusing = self._cutting_off = True
        self.release_rejected()
        for task in self._all():
            task.cancel()

    def _all(self) -> set[asyncio.Task[Any]]:
        return self._predictions | self._control | self._streams | self._unadmitted


class Unadmitted:
    """Stands in the place of Shutdown around calls that may still be refused."""

    def __init__(self, shutdown: Shutdown) -> None:
        self._shutdown = shutdown

    def wrap(self, method: Method, continuation: Handler) -> Handler:  # noqa: ARG002  # the same for every method
        """See Interceptor."""
        return self._shutdown.wrap_unadmitted(continuation)


def _shutting_down() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_SHUTTING_DOWN,
        "The server is shutting down.",
        remedy="Call again: another server, or this one once it is back, will answer.",
        retry_after=1.0,
    )
