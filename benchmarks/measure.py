"""One run of a load generator, and the processor time that the servers and the load used for it."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil

from benchmarks import cores
from deploy.local.config import ROOT


class LoadError(Exception):
    """A run that says nothing: no calls, or calls that failed."""


@dataclass(frozen=True)
class Run:
    """One run. Times of calls are in milliseconds, processor time a call in microseconds, `busy` in shares of one core.

    `lag99` is how late the load generator itself was, where it follows a schedule.
    """

    target: str
    callers: int
    calls: int
    failed: int
    seconds: float
    rate: float
    p50: float
    p95: float
    p99: float
    slowest: float
    cpu: float
    server_busy: float
    load_busy: float
    lag99: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


@dataclass(frozen=True)
class Usage:
    """What a load generator printed, and the seconds of processor time that went by."""

    printed: dict[str, Any]
    server: float
    load_busy: float


def execute(command: Sequence[str], server: Sequence[psutil.Process], helpers: Sequence[psutil.Process]) -> Usage:
    """Run a load generator on the load's cores; `helpers` are processes there that serve the server.

    Raises:
        LoadError: it failed, and why.
    """
    before, load_before, begun = cpu_seconds(server), _load_seconds(helpers), time.monotonic()
    with cores.on(cores.LOAD):
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    wall = time.monotonic() - begun
    used, load_used = cpu_seconds(server) - before, _load_seconds(helpers) - load_before
    if done.returncode:
        raise LoadError(f"{command[0]} ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return Usage(printed=json.loads(done.stdout), server=used, load_busy=load_used / wall)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """The processor time that these processes have used so far."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def refuse_failures(run: Run, errors: object) -> Run:
    """Give a run back whose calls all succeeded.

    Raises:
        LoadError: some did not.
    """
    if run.failed:
        raise LoadError(f"{run.failed} of {run.calls} calls to {run.target} failed: {str(errors)[:500]}")
    return run


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, of values in their order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The median of each number over some runs."""
    return {name: median(each[name] for each in runs) for name, value in runs[0].items() if not isinstance(value, str)}


def of_target(runs: Sequence[dict[str, Any]], target: str) -> list[dict[str, Any]]:
    """The runs against one target, in their order."""
    return [each for each in runs if each["target"] == target]


def ratio(runs: Sequence[dict[str, Any]], name: str, *, ours: str, other: str) -> float:
    """One number of ours over that of another: the median over the rounds, for the two runs of a round saw the same machine."""
    pairs = zip(of_target(runs, ours), of_target(runs, other), strict=True)
    return float(median(one[name] / two[name] for one, two in pairs))


def _load_seconds(helpers: Sequence[psutil.Process]) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds(helpers) + ended.ru_utime + ended.ru_stime
