"""Two targets in absolute numbers: a burst of 1,000 calls with 50 in flight, and a steady 100 a second for minutes."""

from __future__ import annotations

from typing import Any

from benchmarks import driver
from benchmarks.bench import Bench
from benchmarks.load import run

BURST_CALLS = 1000
BURST_CALLERS = 50
STEADY_RATE = 100.0


def burst(bench: Bench) -> dict[str, Any]:
    """The burst, once for each round."""
    limit, pair = ("--total", str(BURST_CALLS)), bench.pair
    runs = [
        run(pair.predict, pair.server, callers=BURST_CALLERS, limit=limit, helpers=bench.valkey, tolerant=True)
        for _ in range(bench.effort.rounds)
    ]
    for each in runs:
        print(f"burst: {each.calls - each.failed} of {each.calls} ok, p95 {each.p95:.1f} ms, p99 {each.p99:.1f} ms")
    return {"runs": [each.as_json() for each in runs]}


def steady(bench: Bench) -> dict[str, Any]:
    """The steady load, once; times count from the intended send."""
    seconds, pair = bench.effort.steady_seconds, bench.pair
    found = driver.open_loop(
        pair.predict_call, pair.server, rate=STEADY_RATE, seconds=seconds, helpers=bench.valkey, tolerant=True
    )
    print(f"steady: {found.calls - found.failed} of {found.calls} ok in {seconds:.0f} s, p99 {found.p99:.2f} ms")
    return {"runs": [found.as_json()]}
