"""Runs the parts of Airflow as one service: `python airflow_parts.py path/to/airflow`. Uses nothing but the standard library.

`airflow standalone` would do, but for this: its scheduler and its triggerer each serve log files on every interface of the
machine, and no setting keeps them from it. What reads a task's log here reads the file.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

PARTS: dict[str, Sequence[str]] = {
    "scheduler": ("--skip-serve-logs",),
    "triggerer": ("--skip-serve-logs",),
    "dag-processor": (),
    "api-server": (),
}
POLL = 0.2
# Seconds between asking and killing.
GRACE = 8.0


def main(airflow: str) -> int:
    """Run the parts until one of them ends or somebody ends us; then end all of them."""
    signal.signal(signal.SIGTERM, _leave)
    subprocess.run([airflow, "db", "migrate"], check=True)
    parts: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, options in PARTS.items():
            parts[name] = _started(name, [airflow, name, *options])
        while not (ended := [name for name, part in parts.items() if part.poll() is not None]):
            time.sleep(POLL)
        print(f"These parts of Airflow ended by themselves: {', '.join(ended)}.", flush=True)
        return 1
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(list(parts.values()))


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def _started(name: str, command: Sequence[str]) -> subprocess.Popen[str]:
    part = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    threading.Thread(target=_tell, args=(name, part), daemon=True).start()
    return part


def _tell(name: str, part: subprocess.Popen[str]) -> None:
    """Pass a part's output on, each line with the part's name."""
    for line in part.stdout or ():
        print(f"{name:13} | {line}", end="", flush=True)


def _end(parts: Sequence[subprocess.Popen[str]]) -> None:
    for part in parts:
        part.terminate()
    deadline = time.monotonic() + GRACE
    for part in parts:
        try:
            part.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            part.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
