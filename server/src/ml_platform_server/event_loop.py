"""An asyncio event loop that knows when it runs out of work: the moment at which what has gathered should be done."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable

Callback = Callable[[], None]


class _Selector(selectors.DefaultSelector):
    """Runs the callbacks that wait for the loop to be idle, before it sleeps."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[Callback] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.waiting or (timeout is not None and timeout <= 0):
            return super().select(timeout)
        # gRPC's threads may have something for the loop, and wait for their turn (see scheduling.py).
        os.sched_yield()
        events = super().select(0)
        if events:
            return events
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()
        # Nothing happened, says this; the loop then runs what the callbacks scheduled.
        return []


class IdleLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop with one thing more: `when_idle`."""

    def __init__(self) -> None:
        self._idle = _Selector()
        super().__init__(self._idle)

    def when_idle(self, callback: Callback) -> None:
        """Run the callback once, when nothing else is left to do. To be called on the loop; the callback must not raise."""
        self._idle.waiting.append(callback)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop that the server runs on, for asyncio.Runner."""
    return IdleLoop()


def when_idle(callback: Callback) -> None:
    """Run the callback when the running loop has nothing else to do; on a loop of another kind, at its next turn."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, IdleLoop):
        loop.when_idle(callback)
    else:
        loop.call_soon(callback)
