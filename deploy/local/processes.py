"""Starting processes so that they can always be found again, and ending all of them.

Every process of a stack carries the stack's state folder in its environment, and its children inherit it. So what a crashed
starter or a crashed parent leaves behind is found, whatever session, group or parent it has moved to.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from deploy.local.errors import NotRunningError, StackError
from deploy.local.state import ProcessRecord, StateFolder

MARK = "ML_PLATFORM_STACK"
SERVICE_MARK = "ML_PLATFORM_STACK_SERVICE"
GRACE = 10.0  # Seconds between asking and killing.
KILL_ROUNDS = 20
MARK_SECONDS = 1.0  # Far more than the system needs; a program may wipe its environment first.


def spawn(
    name: str, command: Sequence[str], *, state: StateFolder, environment: Mapping[str, str], folder: Path
) -> ProcessRecord:
    """Start a process of its own session, marked, with its output in its log."""
    with state.log(name).open("ab") as log:
        process = subprocess.Popen(
            command,
            env={**environment, **marks(state, name)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = ProcessRecord(pid=process.pid, create_time=_born(process.pid), start_time=time.time())
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        del process  # It outlives its starter on purpose, and is found by its mark.
    _wait_until_marked(record, state)
    return record


def _wait_until_marked(record: ProcessRecord, state: StateFolder) -> None:
    """Wait until others see the mark: the system shows the environment of a new program only a moment after it has started it.

    Whoever ended the stack within that moment would miss the process.
    """
    deadline = time.monotonic() + MARK_SECONDS
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(record.pid)
        while not _is_gone(process) and not _service_of(process, state) and time.monotonic() < deadline:
            time.sleep(0.001)


def marks(state: StateFolder, name: str) -> dict[str, str]:
    """Give the environment by which a process is found again."""
    # Without the last one, a process that changes its title would overwrite the environment that others see of it.
    return {MARK: str(state.path), SERVICE_MARK: name, "SPT_NOENV": "1"}


def is_alive(record: ProcessRecord) -> bool:
    """Tell whether the very process that was started still runs."""
    try:
        return abs(_born(record.pid) - record.create_time) < 1 and not _is_gone(psutil.Process(record.pid))
    except psutil.Error:
        return False


def _born(pid: int) -> float:
    """Tell when a process was created: on Linux in seconds since the system's start, which setting its clock does not move."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return float(fields[19]) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return psutil.Process(pid).create_time()


def marked(state: StateFolder, *services: str, spare: str = "") -> list[psutil.Process]:
    """Find every process of a stack, or of some of its services, and their children; spare those of one service."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    recorded = _recorded(state)

    def wanted(service: str) -> bool:
        return service not in ("", spare) and (not services or service in services)

    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            own = recorded.get(process.pid) or _service_of(process, state)
            if not wanted(own):
                continue
            for each in (process, *process.children(recursive=True)):
                # What the supervisor started is its child, and a service of its own.
                if each.pid not in spared and wanted(_service_of(each, state) or own) and not _is_gone(each):
                    found[each.pid] = each
    return list(found.values())


def _service_of(process: psutil.Process, state: StateFolder) -> str:
    """Tell which service of the stack a process says that it belongs to; empty for none."""
    try:
        environment = process.environ()
    except (psutil.Error, OSError):
        return ""
    return environment.get(SERVICE_MARK, "?") if environment.get(MARK) == str(state.path) else ""


def _recorded(state: StateFolder) -> dict[int, str]:
    """Give the living processes that the record names: a program may wipe its environment, and its marks with it."""
    try:
        known = state.read().services
    except NotRunningError:
        return {}
    return {each.pid: name for name, each in known.items() if is_alive(each)}


def end(state: StateFolder, *services: str, spare: str = "", grace: float = GRACE, ask: signal.Signals = signal.SIGTERM) -> int:
    """End every process of a stack, or of some of its services, or all but one's: ask, wait, then kill. Tell how many there were.

    Without a grace they are killed unasked, as a crash would.

    Raises:
        StackError: if something cannot be killed.
    """
    processes = marked(state, *services, spare=spare)
    count = len(processes)
    if grace:
        _signal(processes, ask)
        _wait(processes, grace)
    for _ in range(KILL_ROUNDS):
        # Whatever did not listen, and whatever was born meanwhile.
        processes = marked(state, *services, spare=spare)
        if not processes:
            return count
        _signal(processes, signal.SIGKILL)
        _wait(processes, 1.0)
    raise StackError(f"These processes cannot be ended: {', '.join(str(each.pid) for each in processes)}.")


def _signal(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.send_signal(number)


def _wait(processes: Iterable[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    waiting = list(processes)
    while waiting and time.monotonic() < deadline:
        waiting = [process for process in waiting if not _is_gone(process)]
        time.sleep(0.05)


def _is_gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended; one that only waits for its parent to take note counts as ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True
