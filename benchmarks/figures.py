"""The figures that count, worked out from the raw results in one place, for the results page and for the gates."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import medians, of_target, ratio
from deploy.local.config import ROOT

TARGETS = ROOT / "benchmarks" / "targets.toml"
SERVERS = {
    "kserve": "KServe gRPC",
    "mlserver": "MLServer gRPC",
    "mlflow": "mlflow models serve",
    "bentoml": "BentoML called directly",
}


@dataclass(frozen=True)
class Bound:
    """What a figure should be: at least, or at most."""

    limit: float
    least: bool

    def meets(self, value: float) -> bool:
        """Whether a value is within it."""
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.limit:g}"


@dataclass(frozen=True)
class Figure:
    """One number, by the key that targets and gates know it by."""

    key: str
    text: str
    value: float


def bounds(path: Path) -> dict[str, Bound]:
    """Read bounds by key: `key = {least = 0.95}` or `key = {most = 1.15}`."""
    content = tomllib.loads(path.read_text())
    return {key: Bound(each.get("least", each.get("most")), least="least" in each) for key, each in content.items()}


def all_of(results: Mapping[str, Mapping[str, Any]]) -> list[Figure]:
    """Every figure that the raw results, by part, allow."""
    found = {name: content["found"] for name, content in results.items()}
    return [figure for part, figures in PARTS.items() if part in found for figure in figures(found[part])]


def _curve(found: Mapping[str, Any]) -> Iterator[Figure]:
    for callers, runs in found["runs"].items():
        value = ratio(runs, "rate", ours="predict", other="echo")
        yield Figure(f"rate_{callers}", f"Calls a second over the echo's, {callers} callers", value)
    if runs := found["runs"].get("50"):
        yield Figure(
            "cpu_50", "Processor time a call over the echo's, 50 callers", ratio(runs, "cpu", ours="predict", other="echo")
        )
    if runs := found["runs"].get("1"):
        echo, ours = (medians(of_target(runs, name)) for name in ("echo", "predict"))
        yield Figure("lone_p50", "A lone caller: p50 beyond the echo's, ms", ours["p50"] - echo["p50"])
        yield Figure("lone_p99", "A lone caller: p99 over the echo's", ratio(runs, "p99", ours="predict", other="echo"))


def _open_loop(found: Mapping[str, Any]) -> Iterator[Figure]:
    value = ratio(found["runs"], "p99", ours="predict", other="echo")
    yield Figure("open_p99", f"Open loop at half the capacity ({found['rate']:.0f}/s): p99 over the echo's", value)


def _peers(found: Mapping[str, Any]) -> Iterator[Figure]:
    for name, peer in found["peers"].items():
        if "runs" in peer:
            value = ratio(peer["runs"], "rate", ours="predict", other=name)
            yield Figure(f"peer_{name}", f"Calls a second over {peer_title(name)}", value)


def _batch(found: Mapping[str, Any]) -> Iterator[Figure]:
    texts = {"batch_predict": "BatchPredict with features", "model_infer": "ModelInfer with raw tensors"}
    for target, text in texts.items():
        for rows in sorted({each["rows"] for each in of_target(found["runs"], target)}):
            runs = [each for each in found["runs"] if each["rows"] == rows]
            value = ratio(runs, "rate", ours=target, other="bare")
            yield Figure(f"{target}_{rows}", f"{text}, {rows} rows a call: rows a second over ONNX Runtime alone", value)


def _bentoml(found: Mapping[str, Any]) -> Iterator[Figure]:
    value = ratio(found["runs"], "rate", ours="behind_the_door", other="direct")
    yield Figure("bentoml", "BentoML behind this door over BentoML called once a request, 50 callers", value)


def _swap(found: Mapping[str, Any]) -> Iterator[Figure]:
    moved = of_target(found["runs"], "swapping")
    swaps, failed = (sum(each[name] for each in moved) for name in ("swaps", "failed"))
    yield Figure("swap_failed", f"Failed calls during {swaps} swaps of versions", failed)
    value = ratio(found["runs"], "p99", ours="swapping", other="still")
    yield Figure("swap_p99", "p99 with a swap a second over p99 without", value)


def _worker(found: Mapping[str, Any]) -> Iterator[Figure]:
    yield Figure("memory", "Memory of a worker under load, MiB", found["loaded_memory_mib"])
    yield Figure("ready", "From start to ready, s", median(each["ready"] for each in found["runs"]))


def _burst(found: Mapping[str, Any]) -> Iterator[Figure]:
    calls, failed = (sum(each[name] for each in found["runs"]) for name in ("calls", "failed"))
    yield Figure("burst_ok", "1,000 calls, 50 in flight: share that succeeded", (calls - failed) / calls)
    for name in ("p95", "p99"):
        yield Figure(f"burst_{name}", f"1,000 calls, 50 in flight: {name}, ms", median(each[name] for each in found["runs"]))


def _steady(found: Mapping[str, Any]) -> Iterator[Figure]:
    (only,) = found["runs"]
    value = 1 - only["failed"] / only["calls"]
    yield Figure("steady_ok", f"100 calls a second for {only['seconds']:.0f} s: share that succeeded", value)


def peer_title(name: str) -> str:
    """A peer's name for readers."""
    server, _, form = name.partition("_")
    return f"{SERVERS[server]} ({'ONNX Runtime' if form == 'onnx' else 'scikit-learn'})"


PARTS = {
    "curve": _curve,
    "open_loop": _open_loop,
    "peers": _peers,
    "batch": _batch,
    "bentoml": _bentoml,
    "swap": _swap,
    "worker": _worker,
    "burst": _burst,
    "steady": _steady,
}
