"""Keeps the workers, all together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from ml_platform_server.start import StartupError
from ml_platform_server.supervisor.slot import RestartBackoff, Slot
from ml_platform_server.supervisor.worker import Command

# Beyond what a worker takes to drain; then it hangs.
PATIENCE = 5.0

_log = structlog.get_logger(__name__)


class WorkersFailedError(StartupError):
    """No worker could start; the message is for the operator."""


class Supervisor:
    """Starts workers and keeps them, until it is stopped.

    It gives up only at the first start, if no worker becomes ready: what keeps them from it then is how they are started.

    Args:
        workers: how many.
        command: makes a worker's command.
        env: the workers' environment; this process's own if None.
        drain: seconds that a worker may take to answer the calls that it has.
        worker_timeout: seconds without a heartbeat after which a worker that was ready is replaced.
        on_ready: called once, when all workers are ready for the first time.
        delays: makes what a place among the workers waits between starts.

    Attributes:
        started: whether all workers have become ready.
    """

    def __init__(
        self,
        *,
        workers: int,
        command: Command,
        env: Mapping[str, str] | None = None,
        drain: float,
        worker_timeout: float,
        on_ready: Callable[[], None],
        delays: Callable[[], RestartBackoff] = RestartBackoff,
    ) -> None:
        self.started = False
        self._drain = drain
        self._on_ready = on_ready
        self._ready: set[int] = set()
        self._failed: set[int] = set()
        self._rolling: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._gave_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._slots = [
            Slot(n, command=command, env=env, listener=self, delays=delays(), worker_timeout=worker_timeout)
            for n in range(workers)
        ]

    async def run(self) -> None:
        """Keep the workers until `stop` is called.

        Raises:
            WorkersFailedError: none of them could start.
        """
        tasks = [asyncio.create_task(slot.keep()) for slot in self._slots]
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            # Keeping does not end by itself; should it break, that shows below.
            events: list[asyncio.Future[Any]] = [stopping, self._gave_up, *tasks]
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
            if self._gave_up.done():
                raise WorkersFailedError(self._gave_up.result())
        finally:
            stopping.cancel()
            await self._end(tasks)
        await asyncio.gather(*tasks)

    def stop(self) -> None:
        """Let all workers end in an orderly way."""
        self._stopping.set()

    def kill(self) -> None:
        """End all workers now."""
        self._stopping.set()
        for slot in self._slots:
            slot.kill()

    def roll(self) -> None:
        """Replace the workers one after the other, each once its successor is ready; end with one that does not become ready."""
        if self._rolling is None or self._rolling.done():
            self._rolling = asyncio.create_task(self._roll())

    def on_ready(self, number: int) -> None:
        """See Listener."""
        self._ready.add(number)
        if len(self._ready) == len(self._slots) and not self.started:
            self.started = True
            self._on_ready()

    def on_failure(self, number: int, error: str) -> None:
        """See Listener."""
        self._failed.add(number)
        _log.error("worker_not_started", worker=number, error=error)
        hopeless = bool(error) or len(self._failed) == len(self._slots)
        if hopeless and not self._ready and not self._gave_up.done():
            self._gave_up.set_result(error or "No worker could start; what they wrote before tells why.")

    async def _roll(self) -> None:
        for number, slot in enumerate(self._slots):
            if self._stopping.is_set():
                return
            if not await slot.replace():
                _log.error("replacing_stopped", worker=number)
                return
            _log.info("worker_replaced", worker=number)

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """End the workers, in an orderly way if they can."""
        for slot in self._slots:
            slot.give_up()
        everything = {*tasks, self._rolling} if self._rolling is not None else set(tasks)
        _, late = await asyncio.wait(everything, timeout=self._drain + PATIENCE)
        if late:
            _log.warning("workers_killed", after_seconds=self._drain + PATIENCE)
            for slot in self._slots:
                slot.kill()
            await asyncio.wait(late)
