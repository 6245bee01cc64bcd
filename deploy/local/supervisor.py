"""Keeps the services of a stack alive: starts again what has died, with a backoff, and ends what it left behind.

It runs as a process of the stack's own. It looks at the record that all commands share, so it needs no memory: a supervisor that
was killed is followed by another one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping

from deploy.local import processes
from deploy.local.errors import NotRunningError, StackError
from deploy.local.layout import Service
from deploy.local.state import ProcessRecord, StateFolder

NAME = "supervisor"
POLL = 1.0
STEADY = 60.0  # Seconds after which a service counts as well again.
LONGEST = 30.0
LEFTOVERS_GRACE = 2.0


def backoff(record: ProcessRecord) -> float:
    """How many seconds after the last start the next one may be."""
    return min(LONGEST, 2.0 ** min(record.failures, 10)) if record.failures else 0.0


class Supervisor:
    """Looks after the services of one stack.

    Args:
        state: the stack's folder.
        describe: gives its services, by name.
        clock: seconds since 1970.
    """

    def __init__(
        self, state: StateFolder, describe: Callable[[], Mapping[str, Service]], *, clock: Callable[[], float] = time.time
    ) -> None:
        self._state = state
        self._describe = describe
        self._clock = clock
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look after them until the stack ends, until asked to stop, or until another supervisor was started."""
        signal.signal(signal.SIGTERM, lambda *_: self._stopped.set())
        own = os.getpid()
        while not self._stopped.wait(POLL):
            _reap()
            try:
                record = self._state.read()
            except NotRunningError:
                return
            if own != getattr(record.services.get(NAME), "pid", None):
                return
            self.look()

    def look(self) -> list[str]:
        """Start again what has died and may be started now; give the names."""
        record = self._state.read()
        if not record.ready:
            return []
        due = [name for name, each in record.services.items() if name != NAME and self._is_due(each)]
        return [name for name in due if self._restart(name)]

    def _is_due(self, record: ProcessRecord) -> bool:
        if record.held or processes.is_alive(record):
            return False
        elapsed = self._clock() - record.start_time
        return elapsed >= backoff(record) or elapsed < 0  # The system's clock was set back.

    def _restart(self, name: str) -> bool:
        """Start a service again, unless another command is at work or has already done it."""
        try:
            with self._state.locked(wait=0.0):
                record = self._state.read().services.get(name)
                if record is None or not self._is_due(record):
                    return False
                service = self._describe()[name]
                processes.end(self._state, name, grace=LEFTOVERS_GRACE)
                lasted = self._clock() - record.start_time
                failures = 1 if lasted >= STEADY else record.failures + 1
                process = processes.spawn(
                    name, service.command, state=self._state, environment=service.environment(), folder=service.folder
                )
                process.failures, process.restarts = failures, record.restarts + 1
                self._state.amend(lambda written: written.services.update({name: process}))
        except (StackError, OSError) as error:
            _say(f"{name} cannot be started again now: {error}")
            return False
        _say(f"{name} had ended after {lasted:.0f} s and was started again, as process {process.pid}")
        return True


def _reap() -> None:
    """Take note of ended children: otherwise they stay in the system's table of processes."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _say(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}", file=sys.stdout, flush=True)
