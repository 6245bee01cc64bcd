"""Closed-loop load by ghz: one run against one server, believed only if every call that was made succeeded."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks import cores, tools
from deploy.local.config import ROOT

CONFIGURATIONS = ROOT / "benchmarks" / "ghz"
MOST_CONNECTIONS = 50


class LoadError(Exception):
    """A run that says nothing: no calls, or calls that failed."""


@dataclass(frozen=True)
class Target:
    """What is called. `options` are ghz's beside those in the checked-in configuration: what is known only when things run."""

    name: str
    configuration: str
    host: str
    payloads: Path
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run. Times of calls are in milliseconds, processor time a call in microseconds, `busy` in shares of one core."""

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

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return asdict(self)


def run(
    target: Target,
    server: Sequence[psutil.Process],
    *,
    callers: int,
    limit: Sequence[str],
    helpers: Sequence[psutil.Process] = (),
    tolerant: bool = False,
) -> Run:
    """Load a target. `limit` says for how long (`--duration 3s`) or how often (`--total 1000`); `helpers` serve the server.

    Raises:
        LoadError: nothing was called, or a call failed and that is not to be tolerated.
    """
    command = [
        *(str(tools.ghz()), "--config", str(CONFIGURATIONS / f"{target.configuration}.json")),
        *("--binary-file", str(target.payloads), "--concurrency", str(callers)),
        *("--connections", str(min(callers, MOST_CONNECTIONS)), *limit, *target.options, target.host),
    ]
    before, load_before, begun = cpu_seconds(server), _load_seconds(helpers), time.monotonic()
    with cores.on(cores.LOAD):
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    wall = time.monotonic() - begun
    used, load_used = cpu_seconds(server) - before, _load_seconds(helpers) - load_before
    if done.returncode:
        raise LoadError(f"ghz ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    report = json.loads(done.stdout)
    found = _read(target.name, callers, report, used)
    if found.failed and not tolerant:
        raise LoadError(f"{found.failed} of {found.calls} calls to {target.name} failed: {report['errorDistribution']}")
    return replace(found, server_busy=used / found.seconds, load_busy=load_used / wall)


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """The processor time that these processes have used so far."""
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, of values in their order."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _load_seconds(helpers: Sequence[psutil.Process]) -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds(helpers) + ended.ru_utime + ended.ru_stime


def _read(name: str, callers: int, report: dict[str, Any], used: float) -> Run:
    """Make a run of ghz's report. Everything is counted from the single calls that it lists, not taken from its summary."""
    calls = report["details"] or []
    good = sorted(call["latency"] / 1e6 for call in calls if call["status"] == "OK")
    if not good or report["count"] != len(calls):
        raise LoadError(f"{report['count']} calls to {name}, of which {len(good)} succeeded: {report['errorDistribution']}")
    seconds = report["total"] / 1e9
    return Run(
        target=name,
        callers=callers,
        calls=len(calls),
        failed=len(calls) - len(good),
        seconds=seconds,
        rate=len(good) / seconds,
        p50=percentile(good, 0.50),
        p95=percentile(good, 0.95),
        p99=percentile(good, 0.99),
        slowest=good[-1],
        cpu=used / len(calls) * 1e6,
        server_busy=0.0,
        load_busy=0.0,
    )
