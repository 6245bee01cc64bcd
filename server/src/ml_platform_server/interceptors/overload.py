"""Refuses calls when the process has more of them than it can answer soon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ml_platform_server.call import Call
from ml_platform_server.errors import overloaded
from ml_platform_server.event_loop import when_idle
from ml_platform_server.interceptors.shutdown import Shutdown
from ml_platform_server.method import UNAUTHENTICATED, Handler, Method, Response
from ml_platform_server.settings import ServerSettings

# Between two looks whether the event loop still runs out of work now and then.
_LOOK_SECONDS = 0.1
# A look that is later than this was held up by a process that stood still, and not by calls: no turn of the loop takes as long.
_STALL_SECONDS = 0.25


class Overload:
    """Limits the calls in flight: predictions, other unary calls, and both alone, so that neither keeps out the other.

    gRPC hands over one call a turn of the event loop, and shows neither how many wait behind it nor since when. But when the loop
    runs out of work, nothing waits. So the time since then bounds the age of every call that is handed over. Once it is long,
    calls queue up faster than they are answered, and fewer predictions are let in at once. They should still be enough for full
    batches: a refusal costs gRPC four fifths of what a small prediction does, so letting in 16 in place of 256 answered a fifth
    as many at twice the capacity, and drained nothing.

    Args:
        running: the calls that run.
        settings: the section `server`.
    """

    def __init__(self, *, running: Shutdown, settings: ServerSettings) -> None:
        self._running = running
        self._settings = settings
        self._idle_at = self._due = time.monotonic()
        self._most_predictions = settings.max_predictions_in_flight
        self._most_when_busy = min(settings.max_predictions_in_flight, settings.max_predictions_when_busy)
        self._asked = False
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Begin to watch the event loop."""
        self._idle_at = self._due = time.monotonic()
        self._look()

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def full(self, method: Method) -> Callable[[], bool]:
        """What finds out whether a further call of a method is to be refused."""
        running = self._running.running(method)
        if method.client_streaming or method.server_streaming or method.scope == UNAUTHENTICATED:
            return lambda: False
        if not method.data_plane:
            most = self._settings.max_control_in_flight
            return lambda: len(running) >= most
        return lambda: len(running) >= self._most_predictions

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor. Calls that need not wait for admission are asked about before, by `full`."""
        full, running = self.full(method), self._running.running(method)

        async def handle(request: object, call: Call) -> Response:
            if full():
                raise overloaded("More calls are in flight than the server takes.")
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # a coroutine always runs in a task
            running.add(task)
            try:
                return await continuation(request, call)
            finally:
                running.discard(task)

        return handle

    def _look(self) -> None:
        now = time.monotonic()
        if (late := now - self._due) > _STALL_SECONDS:
            # What came meanwhile is answered soon. Callers who are refused and call again at once would keep the loop busy, so
            # that a pause of a second became refusals for as long as they call.
            self._idle_at = min(now, self._idle_at + late)
        self._due = now + _LOOK_SECONDS
        busy = now - self._idle_at > self._settings.max_queue_seconds
        self._most_predictions = self._most_when_busy if busy else self._settings.max_predictions_in_flight
        if not self._asked:
            self._asked = True
            when_idle(self._idle)
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)

    def _idle(self) -> None:
        self._asked = False
        self._idle_at = time.monotonic()
