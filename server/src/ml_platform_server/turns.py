"""Gives other calls their turn on the event loop amid work that is done piece by piece."""

from __future__ import annotations

import asyncio
import time

# Seconds: pieces differ in size, as errors do that may list many columns.
TURN_SECONDS = 0.01


class Turn:
    """How long the event loop has been held by work that is done piece by piece."""

    def __init__(self) -> None:
        self._end = time.perf_counter() + TURN_SECONDS

    @property
    def over(self) -> bool:
        """Whether other calls should have a turn."""
        return time.perf_counter() > self._end

    async def next(self) -> None:
        """Let other calls have their turn."""
        await asyncio.sleep(0)
        self._end = time.perf_counter() + TURN_SECONDS
