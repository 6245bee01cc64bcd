"""The benchmarks' figures, gates and page say what the raw results say, and nothing of what was not measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import figures, gates, page, results
from benchmarks.measure import medians, ratio
from benchmarks.parts import ALL, QUICK
from benchmarks.parts.profile import CORE, count, split


def run(target: str, rate: float, **others: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("p50", "p95", "p99", "slowest", "cpu", "server_busy", "load_busy", "lag99"), 1.0)
    return {"target": target, "callers": 50, "calls": 100, "failed": 0, "seconds": 1.0, "rate": rate, **numbers, **others}


def curve(*rates: tuple[float, float]) -> dict[str, Any]:
    runs = [each for echo, ours in rates for each in (run("echo", echo), run("predict", ours))]
    return {"rounds": len(rates), "seconds": 1.0, "runs": {"50": runs}}


def content(found: dict[str, Any]) -> dict[str, Any]:
    machine = {
        "date": "2026-01-01T00:00:00",
        "commit": "abc",
        "processor": "p",
        "cores": 2,
        "memory_gib": 1,
        "kernel": "k",
        "python": "3",
        "ghz": "v",
        "server_cores": [0],
        "load_cores": [1],
        "versions": {"grpcio": "1"},
    }
    return {"machine": machine, "found": found}


def test_a_ratio_is_the_median_over_the_rounds_of_each_rounds_own_ratio() -> None:
    """A slow round slows both of its runs, so it moves no ratio."""
    runs = curve((1000, 900), (100, 90), (2000, 1000))["runs"]["50"]
    assert ratio(runs, "rate", ours="predict", other="echo") == pytest.approx(0.9)
    assert medians(runs[:1])["rate"] == 1000


def test_every_target_and_every_gate_names_a_figure_that_exists() -> None:
    """A bound that nothing is held to would look like one that is met."""
    known = {f"rate_{callers}" for callers in (1, 2, 4, 8, 16, 50)} | {
        *("cpu_50", "lone_p50", "lone_p99", "open_p99", "bentoml", "swap_failed", "swap_p99", "memory", "ready"),
        *("burst_ok", "burst_p95", "burst_p99", "steady_ok"),
        *(f"peer_{peer}" for peer in ("kserve_onnx", "kserve_sklearn", "mlserver_onnx", "mlserver_sklearn")),
        *("peer_mlflow_sklearn", "peer_bentoml_onnx", "peer_bentoml_sklearn"),
        *(f"{rpc}_{rows}" for rpc in ("batch_predict", "model_infer") for rows in (64, 256, 1024)),
    }
    assert figures.bounds(figures.TARGETS).keys() <= known
    assert figures.bounds(gates.GATES).keys() <= known


def test_a_gate_is_never_closer_than_its_target() -> None:
    """CI's machines are noisier than the one that the targets are for."""
    targets = figures.bounds(figures.TARGETS)
    for key, gate in figures.bounds(gates.GATES).items():
        assert gate.least == targets[key].least
        assert targets[key].meets(targets[key].limit)
        assert gate.meets(targets[key].limit), key


def test_what_was_not_measured_does_not_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """A part that is missing fails the gates as a figure beyond them does."""
    assert gates.judge({"curve": content(curve((1000, 990)))}) == 1
    told = capsys.readouterr()
    assert "ok  Calls a second over the echo's, 50 callers: 0.99" in told.out
    assert "memory" in told.err


def test_the_page_is_written_from_what_there_is(tmp_path: Path) -> None:
    """A part that was not measured is told as such, and the others stand with their targets."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "curve.json").write_text(json.dumps(content(curve((1000, 500)))))
    written = page.write(raw).read_text()
    assert "| Calls a second over the echo's, 50 callers | 0.5 | ≥ 0.95 | **missed** |" in written
    assert "## Other servers\n\nNot measured yet." in written
    assert (tmp_path / "curve.svg").exists()


def test_every_part_has_a_section_on_the_page() -> None:
    """What is measured is told."""
    assert {part for part, _, _ in page.SECTIONS} == ALL.keys()
    assert set(QUICK) <= ALL.keys()


def test_raw_results_keep_the_digits_that_mean_something() -> None:
    """Five digits are more than any run repeats."""
    assert results.rounded({"a": [1.23456789, 3, "x"]}) == {"a": [1.2346, 3, "x"]}


def test_a_profile_splits_each_threads_time_by_its_samples() -> None:
    """Waiting counts for nothing, a library for the part of ours that called it, and a thread unknown to Python for gRPC."""
    lines = [
        "thread (1): MainThread;_run (asyncio/events.py:1);read (ml_platform_server/backends/feast/redis/read_rows.py:3) 3",
        "thread (1): MainThread;_run (asyncio/events.py:1) 1",
        "thread (1): MainThread;run (asyncio/base_events.py:1);EpollSelector.select (/usr/lib/python3/selectors.py:468) 90",
        "thread (2): Thread-1 (_poll_wrapper);Thread.run (/usr/lib/python3/threading.py:982) 50",
    ]
    shares = split({1: 4.0, 2: 4.0}, count(lines))
    assert shares == {CORE: 0.5, "features: read and decode": 0.375, "gRPC and the event loop": 0.125}
