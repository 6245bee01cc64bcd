"""The curve: calls a second, times and processor time a call of Predict beside the echo's, from one caller to many."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.load import Run, run
from benchmarks.targets import Pair

CALLERS = (1, 2, 4, 8, 16, 50, 200)
WARM_SECONDS = 1.0
HEADINGS = (
    *("callers", "echo/s", "predict/s", "ratio", "echo p50", "predict p50", "echo p99", "predict p99"),
    *("echo cpu us", "predict cpu us", "cpu ratio", "echo busy", "predict busy", "load busy"),
)


def measure(pair: Pair, *, callers: Sequence[int], rounds: int, seconds: float) -> dict[str, Any]:
    """Load both in turn, some rounds for each number of callers; gives every run, by number of callers."""
    _once(pair, max(callers), WARM_SECONDS)
    found = {}
    for count in callers:
        runs = [each for _ in range(rounds) for each in _once(pair, count, seconds)]
        found[str(count)] = [each.as_json() for each in runs]
        print(row(count, found[str(count)]), flush=True)
    return {"rounds": rounds, "seconds": seconds, "runs": found}


def _once(pair: Pair, callers: int, seconds: float) -> tuple[Run, Run]:
    limit = ("--duration", f"{seconds}s")
    echo = run(pair.echo, pair.echo_server, callers=callers, limit=limit)
    predict = run(pair.predict, pair.server, callers=callers, limit=limit, helpers=pair.valkey)
    return echo, predict


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The median of each number over the rounds, by target."""
    names = ("rate", "p50", "p95", "p99", "cpu", "server_busy", "load_busy")
    by_target = {target: [each for each in runs if each["target"] == target] for target in ("echo", "predict")}
    return {target: {name: median(each[name] for each in of) for name in names} for target, of in by_target.items()}


def ratios(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Predict over echo: the median of each round's own ratio, because the two runs of a round saw the same machine."""
    echoes = [each for each in runs if each["target"] == "echo"]
    predicts = [each for each in runs if each["target"] == "predict"]
    pairs = list(zip(echoes, predicts, strict=True))
    return {name: median(ours[name] / echo[name] for echo, ours in pairs) for name in ("rate", "p50", "p99", "cpu")}


def row(callers: int, runs: Sequence[dict[str, Any]]) -> str:
    """One line of the table on the terminal."""
    of, ratio = medians(runs), ratios(runs)
    echo, ours = of["echo"], of["predict"]
    cells = [
        *(f"{callers}", f"{echo['rate']:.0f}", f"{ours['rate']:.0f}", f"{ratio['rate']:.2f}"),
        *(f"{echo['p50']:.2f}", f"{ours['p50']:.2f}", f"{echo['p99']:.2f}", f"{ours['p99']:.2f}"),
        *(f"{echo['cpu']:.0f}", f"{ours['cpu']:.0f}", f"{ratio['cpu']:.2f}"),
        *(f"{echo['server_busy']:.2f}", f"{ours['server_busy']:.2f}", f"{ours['load_busy']:.2f}"),
    ]
    return " ".join(f"{cell:>{len(heading)}}" for cell, heading in zip(cells, HEADINGS, strict=True))


def print_headings() -> None:
    """What the numbers in the lines are."""
    print(" ".join(HEADINGS), flush=True)
