"""The plots of the results page, as SVG; the same numbers give the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.figures import peer_title
from benchmarks.measure import medians, of_target

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "benchmarks"
COLOURS = {"echo": "#8a8f98", "predict": "#1f6feb"}


def curve(path: Path, found: Mapping[str, Any]) -> None:
    """Calls a second, p50 and processor time a call, by number of callers."""
    panels = (("rate", "calls a second"), ("p50", "p50, ms"), ("p99", "p99, ms"), ("cpu", "processor time a call, µs"))
    _, axes = plt.subplots(1, len(panels), figsize=(14, 3.4))
    for (name, title), axis in zip(panels, axes, strict=True):
        for target, colour in COLOURS.items():
            points = {int(callers): medians(of_target(runs, target))[name] for callers, runs in found["runs"].items()}
            axis.plot(list(points), list(points.values()), marker="o", color=colour, label=target)
        _callers_axis(axis, [int(callers) for callers in found["runs"]])
        axis.set_title(title)
        axis.set_ylim(bottom=0)
        if name in ("p50", "p99"):
            axis.set_yscale("log")
    axes[0].legend()
    _save(path)


def peers(path: Path, found: Mapping[str, Any]) -> None:
    """Calls a second of each server, and of Predict in the same runs."""
    measured = {name: peer["runs"] for name, peer in found["peers"].items() if "runs" in peer}
    bars = {peer_title(name): median(run["rate"] for run in of_target(runs, name)) for name, runs in measured.items()}
    ours = [run["rate"] for runs in measured.values() for run in of_target(runs, "predict")]
    bars["this platform: Predict, with features"] = median(ours)
    _, axis = plt.subplots(figsize=(9, 0.5 * len(bars) + 1))
    drawn = axis.barh(list(bars), list(bars.values()), color=["#8a8f98"] * len(measured) + ["#1f6feb"])
    axis.bar_label(drawn, fmt="%.0f", padding=3)
    axis.set_xlabel(f"calls a second, {found['callers']} callers")
    axis.margins(x=0.1)
    _save(path)


def profile(path: Path, shares: Mapping[str, float]) -> None:
    """Where the time of a call goes."""
    ordered = sorted(shares.items(), key=lambda share: share[1])
    _, axis = plt.subplots(figsize=(9, 0.4 * len(ordered) + 1))
    drawn = axis.barh([name for name, _ in ordered], [100 * share for _, share in ordered], color="#1f6feb")
    axis.bar_label(drawn, fmt="%.0f %%", padding=3)
    axis.set_xlabel("share of the server's busy time, %")
    axis.margins(x=0.1)
    _save(path)


def _callers_axis(axis: Axes, callers: Sequence[int]) -> None:
    axis.set_xscale("log")
    axis.set_xticks(callers, [str(each) for each in callers])
    axis.minorticks_off()
    axis.set_xlabel("callers")
    axis.grid(visible=True, alpha=0.3)


def _save(path: Path) -> None:
    plt.tight_layout()
    plt.savefig(path, metadata={"Date": None})
    plt.close()
