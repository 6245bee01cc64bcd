"""Bounds how much of many rows a process works on at once: batches, tensors, and the requests of all streams together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from ml_platform_server.call import remaining
from ml_platform_server.errors import deadline_exceeded, overloaded

# Rows of one request, as columns or as tensors. A few bytes of each may cost an error of some KB.
MOST_ROWS = 100_000


class InFlight:
    """The rows and the bytes of the requests that are being answered.

    What is too much is refused before any work is done for it. A request that is larger than a limit is taken when there is
    nothing else to do, because the size of one request has a limit of its own.

    Args:
        most_rows: rows at once.
        most_bytes: bytes at once, as they came over the wire.
    """

    def __init__(self, *, most_rows: float = math.inf, most_bytes: float = math.inf) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._rows = 0
        self._bytes = 0

    @contextmanager
    def of(self, rows: int, size: int) -> Iterator[None]:
        """Count a request in while the block runs.

        Raises:
            PlatformError: OVERLOADED when there is too much at once; DEADLINE_EXCEEDED when nobody waits for it any more.
        """
        if remaining(1.0) <= 0:
            raise deadline_exceeded("The prediction")
        if self._rows and (self._rows + rows > self._most_rows or self._bytes + size > self._most_bytes):
            raise overloaded("The server works on as many rows as it takes at once.")
        self._rows += rows
        self._bytes += size
        try:
            yield
        finally:
            self._rows -= rows
            self._bytes -= size
