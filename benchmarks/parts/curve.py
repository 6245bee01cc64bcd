"""The curve: calls a second, times and processor time a call of Predict beside the echo's, from one caller to many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.bench import Bench
from benchmarks.load import run
from benchmarks.measure import Run, medians, of_target, ratio

HEADINGS = (
    *("callers", "echo/s", "predict/s", "ratio", "echo p50", "predict p50", "echo p99", "predict p99"),
    *("echo cpu us", "predict cpu us", "cpu ratio", "echo busy", "predict busy", "load busy"),
)
MANY = 50


def measure(bench: Bench) -> dict[str, Any]:
    """Load both in turn, some rounds for each number of callers; gives every run, by number of callers."""
    effort = bench.effort
    _round(bench, MANY, 1.0)  # A server is at its best once it has seen some load.
    print(" ".join(HEADINGS), flush=True)
    found = {}
    for callers in effort.callers:
        runs = [each.as_json() for _ in range(effort.rounds) for each in _round(bench, callers, effort.seconds)]
        found[str(callers)] = runs
        print(_row(callers, runs), flush=True)
    return {"rounds": effort.rounds, "seconds": effort.seconds, "runs": found}


def _round(bench: Bench, callers: int, seconds: float) -> tuple[Run, Run]:
    limit, pair = ("--duration", f"{seconds}s"), bench.pair
    echo = run(pair.echo, pair.echo_server, callers=callers, limit=limit)
    predict = run(pair.predict, pair.server, callers=callers, limit=limit, helpers=bench.valkey)
    return echo, predict


def _row(callers: int, runs: Sequence[dict[str, Any]]) -> str:
    """One line of the table on the terminal."""
    echo, ours = (medians(of_target(runs, name)) for name in ("echo", "predict"))
    rate, cpu = (ratio(runs, name, ours="predict", other="echo") for name in ("rate", "cpu"))
    cells = [
        *(f"{callers}", f"{echo['rate']:.0f}", f"{ours['rate']:.0f}", f"{rate:.2f}"),
        *(f"{echo['p50']:.2f}", f"{ours['p50']:.2f}", f"{echo['p99']:.2f}", f"{ours['p99']:.2f}"),
        *(f"{echo['cpu']:.0f}", f"{ours['cpu']:.0f}", f"{cpu:.2f}"),
        *(f"{echo['server_busy']:.2f}", f"{ours['server_busy']:.2f}", f"{ours['load_busy']:.2f}"),
    ]
    return " ".join(f"{cell:>{len(heading)}}" for cell, heading in zip(cells, HEADINGS, strict=True))
