"""Bounds the memory that large requests take: those that are being inflated, parsed and answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ml_platform_server.errors import overloaded


class LargeInFlight:
    """The bytes of the large requests in flight, of all methods together.

    What is too much is refused before it is inflated or parsed. One request is always taken: its size has a limit of its own.

    Args:
        most_bytes: bytes at once. A compressed request counts as large as its method takes until it is inflated.
    """

    def __init__(self, *, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0

    @contextmanager
    def of(self, size: int) -> Iterator[None]:
        """Count a request in while the block runs.

        Raises:
            PlatformError: OVERLOADED when there is too much at once.
        """
        if self._bytes and self._bytes + size > self._most_bytes:
            raise overloaded("The server works on as many large requests as it takes at once.")
        self._bytes += size
        try:
            yield
        finally:
            self._bytes -= size
