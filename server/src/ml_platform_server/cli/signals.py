"""What a process does about signals, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from ml_platform_server import logs


class Signals:
    """Turns SIGTERM and SIGINT into an orderly end, and a second one into an end at once.

    Args:
        at_once: called on the second signal, before this process ends.
    """

    def __init__(self, *, at_once: Callable[[], None] | None = None) -> None:
        self.stopped = asyncio.Event()
        self._at_once = at_once
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def ready(self) -> None:
        """From now on a signal drains; until now it gives up the start."""
        self._starting = None

    def _on_signal(self, number: signal.Signals) -> None:
        if self.stopped.is_set():
            if self._at_once is not None:
                self._at_once()
            exit_now(128 + number)
        self.stopped.set()
        if self._starting is not None:
            self._starting.cancel()


def exit_now(status: int) -> NoReturn:
    """End the process without waiting for threads: one that hangs in a backend's call would hold it up until that call ends."""
    logs.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
