"""One place among the workers: whoever holds it is replaced when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Protocol

import structlog

from ml_platform_server.supervisor.worker import Command, StartupReport, Worker

# A worker that was ready for so long had a good start; what ended it is not how it was started.
STABLE_SECONDS = 30.0

_log = structlog.get_logger(__name__)


class Listener(Protocol):
    """Receives the events of the worker in a slot."""

    def on_ready(self, number: int) -> None:
        """It answers calls."""

    def on_failure(self, number: int, error: str) -> None:
        """It ended before it was ready; the error is empty if it did not say why."""


class RestartBackoff:
    """How long to wait before the next start: not at all after a good one, and longer and longer after bad ones."""

    def __init__(self, *, first: float = 0.25, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._bad_starts = 0

    def after(self, ready_seconds: float) -> float:
        """Seconds to wait after a worker that was ready for so long."""
        if ready_seconds >= STABLE_SECONDS:
            self._bad_starts = 0
            return 0.0
        self._bad_starts += 1
        return min(self._longest, self._first * 2.0 ** min(self._bad_starts - 1, 30))


class Slot:
    """A place with a number, and the worker that holds it.

    Args:
        number: which place it is.
        command: makes the worker's command.
        env: the worker's environment.
        listener: receives its events.
        delays: between starts.
        worker_timeout: seconds without a heartbeat after which a worker that was ready is replaced.
    """

    def __init__(
        self,
        number: int,
        *,
        command: Command,
        env: Mapping[str, str] | None,
        listener: Listener,
        delays: RestartBackoff,
        worker_timeout: float,
    ) -> None:
        self._number = number
        self._command = command
        self._env = env
        self._listener = listener
        self._delays = delays
        self._worker_timeout = worker_timeout
        self._given_up = asyncio.Event()
        self._killed = False
        self._running: set[Worker] = set()
        self._current: Worker | None = None

    async def keep(self) -> None:
        """Start a worker, and another whenever it ends, until the place is given up."""
        while not self._given_up.is_set():
            try:
                worker, news = await self._start()
            except OSError as error:
                await self._pause(0.0, error=str(error))
                continue
            began = time.monotonic()
            self._tell(news)
            ended, status = await self._until_end(worker)
            ready_seconds = time.monotonic() - began if news.ready else 0.0
            await self._pause(ready_seconds, pid=ended.pid, status=status)

    async def replace(self) -> bool:
        """Start another worker and, once it is ready, end the one before; False if it does not become ready."""
        before = self._current
        if before is None:
            return True  # It has just ended, and its successor is on the way.
        worker, news = await self._start()
        if not news.ready or self._current is not before:
            worker.kill()
            await worker.wait()
            self._running.discard(worker)
            return news.ready
        self._current = worker
        before.end()
        return True

    def give_up(self) -> None:
        """Let the worker end in an orderly way, and start no other."""
        self._given_up.set()
        for worker in self._running:
            worker.end()

    def kill(self) -> None:
        """End the worker now, and start no other."""
        self._killed = True
        self._given_up.set()
        for worker in self._running:
            worker.kill()

    async def _start(self) -> tuple[Worker, StartupReport]:
        worker = await Worker.start(self._command, self._number, self._env)
        self._running.add(worker)
        if self._killed:
            worker.kill()
        elif self._given_up.is_set():
            worker.end()
        news = await worker.news()
        if news.ready:
            worker.kill_when_silent(self._worker_timeout)
        return worker, news

    async def _until_end(self, worker: Worker) -> tuple[Worker, int]:
        """Wait until the worker has ended, or, if it is replaced meanwhile, the last one in its place."""
        self._current = worker
        while True:
            worker = self._current
            status = await worker.wait()
            self._running.discard(worker)
            if worker is self._current:
                self._current = None
                return worker, status

    def _tell(self, news: StartupReport) -> None:
        if self._given_up.is_set():
            return
        if news.ready:
            self._listener.on_ready(self._number)
        else:
            self._listener.on_failure(self._number, news.error)

    async def _pause(self, ready_seconds: float, **facts: object) -> None:
        if self._given_up.is_set():
            return
        seconds = self._delays.after(ready_seconds)
        _log.error("worker_ended", worker=self._number, starts_again_in=round(seconds, 2), **facts)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._given_up.wait()
