"""Learns how long a model's runs take, so that short ones may happen where they are and long ones elsewhere."""

from __future__ import annotations

# The weight of the newest measurement in the running mean.
NEWEST = 0.2


class LatencyEstimator:
    """The processor time of runs by their size: the sizes that share a power of two share a mean.

    A run has a part that does not grow with its rows, so the time of many rows cannot be told from that of one.
    """

    def __init__(self) -> None:
        self._means: dict[int, float] = {}

    def expected(self, rows: int) -> float:
        """Seconds that a run of so many rows should take at most; infinity while nothing is known."""
        size = rows.bit_length()
        for known in range(size, 0, -1):
            if known in self._means:
                return self._means[known] * 2.0 ** (size - known)
        return min(self._means.values(), default=float("inf"))

    def took(self, rows: int, seconds: float) -> None:
        """Take note of a run."""
        size = rows.bit_length()
        mean = self._means.get(size, seconds)
        self._means[size] = mean + NEWEST * (seconds - mean)
