"""An open loop at half of what the server can do: calls come when they come, and each one's time counts from when it was due."""

from __future__ import annotations

from typing import Any

from benchmarks import driver
from benchmarks.bench import Bench
from benchmarks.load import run

CALLERS = 50


def measure(bench: Bench) -> dict[str, Any]:
    """Find out what the server can do, then call it and the echo at half of that rate, in turn, at random moments."""
    effort, pair = bench.effort, bench.pair
    limit = ("--duration", f"{effort.seconds}s")
    capacity = run(pair.predict, pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey).rate
    rate = round(capacity / 2)
    runs = []
    for _ in range(effort.rounds):
        echo = driver.open_loop(pair.echo_call, pair.echo_server, rate=rate, seconds=effort.open_seconds)
        ours = driver.open_loop(pair.predict_call, pair.server, rate=rate, seconds=effort.open_seconds, helpers=bench.valkey)
        runs += [echo.as_json(), ours.as_json()]
        print(f"open loop at {rate}/s: p99 echo {echo.p99:.2f} ms, predict {ours.p99:.2f} ms, own lag {ours.lag99:.2f} ms")
    return {"capacity": capacity, "rate": rate, "seconds": effort.open_seconds, "runs": runs}
