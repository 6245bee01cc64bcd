"""Identifies the process that holds a lease, so that a lease whose process has died can be taken over at once."""

from __future__ import annotations

import os
import uuid
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
# proc(5): the fields of /proc/PID/stat that follow the command's name, which ends with the last parenthesis.
_STATE, _START_TIME = 0, 19
_ENDED_STATES = ("Z", "X")


@cache
def this_process() -> str:
    """Return the identity of the current process: machine, process ID and start time.

    Where the system has no /proc it is a random string, and whether the process still runs is unknown.
    """
    machine, pid = _machine(), os.getpid()
    start_time = _start_time(pid)
    return f"{machine}:{pid}:{start_time}" if machine and start_time else uuid.uuid4().hex


def has_ended(owner: str) -> bool:
    """Return whether the process certainly runs no more.

    False where that cannot be known: the process belongs to another machine or container.
    """
    machine, _, rest = owner.partition(":")
    pid, _, start_time = rest.partition(":")
    if not machine or machine != _machine() or not pid.isdecimal():
        return False
    return _start_time(int(pid)) != start_time


@cache
def _machine() -> str:
    """The machine since it was booted, and the container: process IDs mean the same within it. Empty where unknown."""
    try:
        boot_id = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot_id}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """When a running process started, in clock ticks since boot; empty if there is no such process, or it has ended."""
    try:
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[_STATE] in _ENDED_STATES else fields[_START_TIME]
