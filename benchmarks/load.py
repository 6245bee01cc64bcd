"""Closed-loop load by ghz, believed only if there were calls and every one of them succeeded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import tools
from benchmarks.measure import LoadError, Run, Usage, execute, percentile, refuse_failures
from deploy.local.config import ROOT

CONFIGURATIONS = ROOT / "benchmarks" / "ghz"
MOST_CONNECTIONS = 50


@dataclass(frozen=True)
class Target:
    """What is called. `options` are ghz's beside those in the checked-in configuration: what is known only when things run."""

    name: str
    configuration: str
    host: str
    payloads: Path
    options: tuple[str, ...] = ()


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
    usage = execute(command, server, helpers)
    found = _read(target.name, callers, usage)
    return found if tolerant else refuse_failures(found, usage.printed["errorDistribution"])


def _read(name: str, callers: int, usage: Usage) -> Run:
    """Make a run of ghz's report. Everything is counted from the single calls that it lists, not taken from its summary."""
    report = usage.printed
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
        cpu=usage.server / len(calls) * 1e6,
        server_busy=usage.server / seconds,
        load_busy=usage.load_busy,
    )
