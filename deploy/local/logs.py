"""The log files of a stack: keeping the last run's apart, and showing their ends."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

from deploy.local.errors import StackError
from deploy.local.state import StateFolder

BLAMED_LINES = 25


def set_aside(state: StateFolder) -> None:
    """Keep the logs of the run before this one under another name, and begin anew."""
    for log in state.folder("logs").glob("*.log"):
        log.replace(log.with_suffix(".log.previous"))


def tail(log: Path, lines: int) -> list[str]:
    """Give the last lines of a log; none if there is no log."""
    try:
        with log.open(errors="replace") as file:
            return [line.rstrip("\n") for line in deque(file, lines)]
    except FileNotFoundError:
        return []


def blame(state: StateFolder, name: str, trouble: str) -> StackError:
    """Make the error that says what went wrong with a service or a step, with the end of its log."""
    log = state.log(name)
    end = "\n".join(f"    {line}" for line in tail(log, BLAMED_LINES))
    return StackError(f"{name} {trouble}. The end of {log}:\n{end or '    (empty)'}")


def choose(state: StateFolder, service: str) -> list[Path]:
    """Give the logs of one service with all its parts, or of all.

    Raises:
        StackError: if there is none.
    """
    patterns = (f"{service}.log", f"{service}-*.log") if service else ("*.log",)
    found = sorted(log for pattern in patterns for log in state.logs.glob(pattern))
    if not found:
        present = ", ".join(sorted(log.stem for log in state.logs.glob("*.log"))) or "none yet"
        raise StackError(f"There is no log of {service or 'anything'} in {state.logs}. Logs there: {present}.")
    return found


def follow(logs: list[Path], lines: int) -> None:
    """Hand over to `tail`, which shows what comes until it is interrupted."""
    os.execvp("tail", ["tail", "-n", str(lines), "-F", *map(str, logs)])  # noqa: S606, S607  # the system's own `tail`, and no shell
