"""The parts of the benchmarks. Each measures one thing and gives plain numbers, which are kept and judged elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.parts import batch, bentoml, costs, curve, goals, open_loop, peers, profile, swap, turns, worker

ALL: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "curve": curve.measure,
    "open_loop": open_loop.measure,
    "batch": batch.measure,
    "bentoml": bentoml.measure,
    "swap": swap.measure,
    "worker": worker.measure,
    "peers": peers.measure,
    "burst": goals.burst,
    "costs": costs.measure,
    "turns": turns.measure,
    "profile": profile.measure,
    "steady": goals.steady,
}
QUICK = ["curve", "open_loop", "swap", "worker", "burst"]
