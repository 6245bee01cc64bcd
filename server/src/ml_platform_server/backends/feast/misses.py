"""What the registry did not have a moment ago."""

from __future__ import annotations

import time

SECONDS = 1.0
"""How long a miss is remembered: as long may something that another process makes in this time go unseen, if it was asked for."""
MOST = 1024
Name = tuple[str, str] | None
"""What an error names as missing, its kind and its name; None if it names nothing."""


class Misses:
    """Remembers for a short time what was not there.

    Args:
        seconds: for how long.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._ends: dict[Name, float] = {}

    def add(self, name: Name) -> None:
        """Remember that this is missing."""
        if name is None:
            return
        if len(self._ends) >= MOST:
            self._ends.clear()
        self._ends[name] = time.monotonic() + self._seconds

    def has(self, name: Name) -> bool:
        """Whether this was missing a moment ago."""
        return self._ends.get(name, 0.0) > time.monotonic()

    def clear(self) -> None:
        """Forget all: something is new."""
        self._ends.clear()
