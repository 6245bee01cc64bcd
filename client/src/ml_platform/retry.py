"""When a failed call is tried again, and after how long. No input or output happens here."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from ml_platform.errors import Code, MLPlatformError

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 5.0


def backoff(attempt: int) -> float:
    """Seconds to wait after the given attempt, counted from 1: doubling, capped, and jittered so that clients spread out."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)  # noqa: S311  # no secret


def may_help(error: MLPlatformError) -> bool:
    """Whether trying again may help: nobody answered, or the server itself said when to come back."""
    asked_back = error.retry_after is not None and error.code in {Code.ABORTED, Code.RESOURCE_EXHAUSTED}
    return error.code == Code.UNAVAILABLE or asked_back


@dataclass(slots=True)
class Attempts:
    """The attempts of one call: all of them together stay within its deadline.

    Attributes:
        timeout: seconds for the whole call.
        retries: how many attempts there may be after the first.
    """

    timeout: float
    retries: int
    made: int = 0
    _begin: float = field(init=False)
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._begin = time.monotonic()
        self._deadline = self._begin + self.timeout

    def described(self) -> str:
        """How often and for how long the call was tried, counting the attempt that has just failed."""
        seconds = time.monotonic() - self._begin
        often = f"Tried {self.made + 1} times" if self.made else "Tried once"
        return f"{often}, for {seconds:.1f} s."

    def remaining(self) -> float:
        """Seconds left for the next attempt."""
        return max(0.001, self._deadline - time.monotonic())

    def pause_after(self, error: MLPlatformError) -> float | None:
        """Seconds to wait before the next attempt; None if there must be none."""
        self.made += 1
        if self.made > self.retries or not may_help(error):
            return None
        pause = max(backoff(self.made), error.retry_after or 0.0)
        return pause if time.monotonic() + pause < self._deadline else None
