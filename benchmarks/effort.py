"""How long everything is measured: all of it for the results page, or a few minutes' worth for CI."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """Seconds are those of one run; `few_rounds` are for what differs by so much that more rounds would tell no more."""

    callers: tuple[int, ...]
    rounds: int
    few_rounds: int
    seconds: float
    open_seconds: float
    steady_seconds: float
    starts: int
    batch_sizes: tuple[int, ...]


FULL = Effort(
    callers=(1, 2, 4, 8, 16, 50, 200),
    rounds=5,
    few_rounds=3,
    seconds=3.0,
    open_seconds=10.0,
    steady_seconds=300.0,
    starts=5,
    batch_sizes=(64, 256, 1024),
)
QUICK = Effort(
    callers=(1, 8, 50), rounds=3, few_rounds=3, seconds=2.0, open_seconds=3.0, steady_seconds=10.0, starts=1, batch_sizes=(256,)
)
