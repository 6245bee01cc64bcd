"""Judges a short run: fails where a figure is beyond its gate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from benchmarks import figures
from deploy.local.config import ROOT

GATES = ROOT / "benchmarks" / "gates.toml"


def judge(results: Mapping[str, Mapping[str, Any]]) -> int:
    """Print every gated figure beside its gate and its target; gives 1 if any is beyond its gate or was not measured, else 0."""
    gates, targets = figures.bounds(GATES), figures.bounds(figures.TARGETS)
    found = {figure.key: figure for figure in figures.all_of(results)}
    failed = sorted(gates.keys() - found.keys())
    for key, figure in found.items():
        if key not in gates:
            continue
        passed = gates[key].meets(figure.value)
        verdict = "ok" if passed else "FAILED"
        target = targets.get(key, "none")
        print(f"{verdict:>6}  {figure.text}: {figure.value:.3g} (gate {gates[key]}, target {target})")
        if not passed:
            failed.append(key)
    if failed:
        print(f"Beyond their gates in benchmarks/gates.toml, or not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0
