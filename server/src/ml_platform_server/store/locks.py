"""Locks that hold across all processes and machines of the platform."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ml_platform_server.call import remaining
from ml_platform_server.errors import deadline_exceeded
from ml_platform_server.store.idempotency import CallKey, IdempotencyStore, Lease

# Seconds between two attempts: short at first, because a lock is mostly held for a moment.
SHORTEST_WAIT = 0.02
LONGEST_WAIT = 0.5
PATIENCE = 30.0
"""Seconds to wait for a lock outside of a call."""


class Locks:
    """Locks by name. Each is stored as a call without a caller, so it is renewed, and taken over if its process ends.

    Args:
        calls: what keeps the leases.
    """

    def __init__(self, *, calls: IdempotencyStore) -> None:
        self._calls = calls

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock in a block; no other block of the same name runs meanwhile.

        Raises:
            PlatformError: DEADLINE_EXCEEDED if the lock is not free before the call's deadline; BACKEND_UNAVAILABLE.
        """
        lease = await self._acquire(name)
        try:
            yield
        finally:
            await self._calls.release(lease)

    async def _acquire(self, name: str) -> Lease:
        key = CallKey("", f"lock {name}", "")
        wait, end = SHORTEST_WAIT, time.monotonic() + remaining(PATIENCE)
        while True:
            begun = await self._calls.acquire(key, b"")
            if isinstance(begun, Lease):
                return begun
            if time.monotonic() + wait > end:
                raise deadline_exceeded("A change that another call is making, and that this call has to wait for,")
            await asyncio.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  # spreads attempts, keeps no secret
            wait = min(2 * wait, LONGEST_WAIT)
