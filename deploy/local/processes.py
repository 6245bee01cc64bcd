"""Starting processes so that they can always be found again, and ending all of them.

Every process of a stack carries the stack's state folder in its environment, and its children inherit it. So what a crashed
starter or a crashed parent leaves behind is found, whatever session, group or parent it has moved to.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import psutil

from deploy.local.errors import NotRunningError, StackError
from deploy.local.state import ProcessRecord, StateFolder

MARK = "ML_PLATFORM_STACK"
SERVICE_MARK = "ML_PLATFORM_STACK_SERVICE"
GRACE = 10.0  # Seconds between asking and killing.
KILL_ROUNDS = 20


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
    return ProcessRecord(pid=process.pid, create_time=psutil.Process(process.pid).create_time())


def marks(state: StateFolder, name: str) -> dict[str, str]:
    """Give the environment by which a process is found again."""
    # Without the last one, a process that changes its title would overwrite the environment that others see of it.
    return {MARK: str(state.path), SERVICE_MARK: name, "SPT_NOENV": "1"}


def is_alive(record: ProcessRecord) -> bool:
    """Tell whether the very process that was started still runs."""
    try:
        process = psutil.Process(record.pid)
        return abs(process.create_time() - record.create_time) < 1 and not _is_gone(process)
    except psutil.Error:
        return False


def marked(state: StateFolder, service: str | None = None) -> list[psutil.Process]:
    """Find every process of a stack, or of one of its services, and their children."""
    spared = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    recorded = _recorded(state, service)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid not in recorded and not _carries_marks(process, state, service):
                continue
            for each in (process, *process.children(recursive=True)):
                if each.pid not in spared and not _is_gone(each):
                    found[each.pid] = each
    return list(found.values())


def _carries_marks(process: psutil.Process, state: StateFolder, service: str | None) -> bool:
    environment = process.environ()
    return environment.get(MARK) == str(state.path) and service in (None, environment.get(SERVICE_MARK))


def _recorded(state: StateFolder, service: str | None) -> set[int]:
    """Give the living processes that the record names: a program may wipe its environment, and its marks with it."""
    try:
        services = state.read().services
    except NotRunningError:
        return set()
    return {each.pid for name, each in services.items() if service in (None, name) and is_alive(each)}


def end(state: StateFolder, service: str | None = None, *, grace: float = GRACE) -> int:
    """End every process of a stack, or of one of its services: ask, wait, then kill. Tell how many there were.

    Without a grace they are killed unasked, as a crash would.

    Raises:
        StackError: if something cannot be killed.
    """
    processes = marked(state, service)
    count = len(processes)
    if grace:
        _signal(processes, kill=False)
        _wait(processes, grace)
    for _ in range(KILL_ROUNDS):
        # Whatever did not listen, and whatever was born meanwhile.
        processes = marked(state, service)
        if not processes:
            return count
        _signal(processes, kill=True)
        _wait(processes, 1.0)
    raise StackError(f"These processes cannot be ended: {', '.join(str(each.pid) for each in processes)}.")


def _signal(processes: Iterable[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill() if kill else process.terminate()


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
