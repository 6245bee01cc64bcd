"""A run of the load generators is believed only if it says something."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2

from benchmarks import load, payloads
from benchmarks.measure import LoadError, Usage, refuse_failures
from ml_platform.v1 import predictions_pb2


def usage(*statuses: str, count: int | None = None) -> Usage:
    calls = [{"latency": (at + 1) * 1_000_000, "status": status} for at, status in enumerate(statuses)]
    report: dict[str, Any] = {
        "details": calls,
        "count": len(calls) if count is None else count,
        "total": 2e9,
        "errorDistribution": {},
    }
    return Usage(printed=report, server=0.5, load_busy=0.1)


def test_a_run_is_counted_from_its_single_calls() -> None:
    """Rates, percentiles and processor time come from the list of calls, and failures are no successes."""
    found = load._read("t", 4, usage("OK", "OK", "Unavailable", "OK"))
    assert (found.calls, found.failed, found.rate, found.slowest) == (4, 1, 1.5, 4.0)
    assert found.cpu == pytest.approx(125_000)
    with pytest.raises(LoadError, match="1 of 4 calls to t failed"):
        refuse_failures(found, {})


@pytest.mark.parametrize("told", [usage(), usage("Unavailable"), usage("OK", count=2)])
def test_a_run_without_calls_says_nothing(told: Usage) -> None:
    """Ghz reports zeros when it sent nothing, and a report that does not list its calls cannot be checked."""
    with pytest.raises(LoadError):
        load._read("t", 4, told)


def test_requests_are_written_each_with_its_length(tmp_path: Path) -> None:
    """Ghz and the driver read requests that have their length before them as a varint."""
    written = payloads.write_raw(tmp_path / "p.bin", [b"a", b"b" * 300]).read_bytes()
    assert written == b"\x01a" + b"\xac\x02" + b"b" * 300


def test_descriptors_come_with_all_that_they_import(tmp_path: Path) -> None:
    """A file stands after the files that it imports, once."""
    path = payloads.write_descriptors(tmp_path / "d.binpb", predictions_pb2.DESCRIPTOR)
    names = [file.name for file in descriptor_pb2.FileDescriptorSet.FromString(path.read_bytes()).file]
    assert names[-1] == "ml_platform/v1/predictions.proto"
    assert len(names) == len(set(names))
    assert "google/protobuf/struct.proto" in names
