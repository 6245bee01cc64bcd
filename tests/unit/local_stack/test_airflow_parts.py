"""The parts of Airflow, run as one service by a script, on a stand-in for Airflow's program."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local import airflow_parts

AIRFLOW = """#!/bin/sh
echo "$@" >> {folder}/started
case "$1" in
  db) exit 0 ;;
  {ending}) exit 3 ;;
esac
echo "I am $1"
trap 'echo "$1" >> {folder}/ended; exit 0' TERM
while :; do sleep 0.05; done
"""


def running(folder: Path, *, ending: str = "nobody") -> subprocess.Popen[str]:
    """The script, with a program for Airflow whose part `ending` ends at once."""
    program = folder / "airflow"
    program.write_text(AIRFLOW.format(folder=folder, ending=ending))
    program.chmod(0o755)
    command = [sys.executable, "-P", str(airflow_parts.__file__), str(program)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(path: Path) -> list[str]:
    return sorted(path.read_text().splitlines()) if path.exists() else []


def until(folder: Path, count: int) -> None:
    end = time.monotonic() + 20
    while len(lines(folder / "started")) < count:
        assert time.monotonic() < end, lines(folder / "started")
        time.sleep(0.02)


def test_the_parts_start_after_the_database_and_serve_no_logs(tmp_path: Path) -> None:
    """What would serve logs to everybody is told not to, and all end when the script is asked to end."""
    script = running(tmp_path)
    until(tmp_path, 5)
    time.sleep(0.3)  # until each part has set its trap
    script.send_signal(signal.SIGTERM)
    output, _ = script.communicate(timeout=20)
    assert (tmp_path / "started").read_text().splitlines()[0] == "db migrate"
    assert lines(tmp_path / "started") == [
        "api-server",
        "dag-processor",
        "db migrate",
        "scheduler --skip-serve-logs",
        "triggerer --skip-serve-logs",
    ]
    assert lines(tmp_path / "ended") == ["api-server", "dag-processor", "scheduler", "triggerer"]
    assert "scheduler     | I am scheduler" in output
    assert script.returncode == 0


@pytest.mark.parametrize("part", ["scheduler", "api-server"])
def test_a_part_that_ends_by_itself_ends_the_service(tmp_path: Path, part: str) -> None:
    """Whoever looks after the service sees that it is gone, and its log says which part it was."""
    script = running(tmp_path, ending=part)
    output, _ = script.communicate(timeout=20)
    assert (script.returncode, f"ended by themselves: {part}." in output) == (1, True)
