"""The parts of the benchmarks. Each measures one thing and gives plain numbers, which are kept and judged elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.bench import Bench
from benchmarks.parts import curve, goals, open_loop

ALL: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "curve": curve.measure,
    "open_loop": open_loop.measure,
    "burst": goals.burst,
    "steady": goals.steady,
}
QUICK = ["curve", "open_loop", "burst"]
