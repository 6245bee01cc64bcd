"""Requests to BentoML that are under way, few of them for each model version."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from ml_platform_server.call import remaining
from ml_platform_server.errors import deadline_exceeded, within

T = TypeVar("T")
_WHAT = "The prediction in BentoML"


class Places:
    """Bounds what runs at once for one model version, so that it leaves connections and threads for the others.

    BentoML cannot end a run that has begun. A request whose caller leaves therefore goes on and keeps its place until it is
    answered or its connection is closed. Were the place free at once, short deadlines could pile up runs without end.

    Args:
        most: requests of one version at once.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._free: WeakValueDictionary[tuple[str, int], asyncio.Semaphore] = WeakValueDictionary()
        self._running: set[asyncio.Task[Any]] = set()

    async def run(self, model: tuple[str, int], request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Wait for a place, and then for the request, until the deadline of the call.

        Raises:
            PlatformError: DEADLINE_EXCEEDED; a request that had no place by then is not sent.
        """
        free = self._free.get(model)
        if free is None:
            free = self._free[model] = asyncio.Semaphore(self._most)
        left = remaining(math.inf)
        if left <= 0:
            raise deadline_exceeded(_WHAT)
        async with within(left, _WHAT):
            await free.acquire()
            task = asyncio.create_task(request())
            self._running.add(task)
            task.add_done_callback(lambda done: self._ended(free, done))
            return await asyncio.shield(task)

    def _ended(self, free: asyncio.Semaphore, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        free.release()
        if not task.cancelled():
            task.exception()  # Looked at, as the caller may have left.

    async def close(self) -> None:
        """End what is still under way."""
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
