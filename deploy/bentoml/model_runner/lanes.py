"""Shares the threads among the models, and drops work that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from model_runner.failures import Expired


@dataclass(eq=False)
class _Job:
    """Work that waits for a thread."""

    work: Callable[[], Any]
    result: asyncio.Future[Any]


class Lanes:
    """Runs work in threads. A model that hangs or is asked much takes no more than its share.

    When a thread is free, it goes to the model with the fewest runs in progress, so that one that was quiet need not wait behind
    the others' queues. Work that has begun cannot be ended, but work whose deadline passes before it begins is never done.

    Args:
        threads: how many there are.
        most: how many of them one model may have.
    """

    def __init__(self, *, threads: int, most: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._free = threads
        self._most = most
        self._running: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, deque[_Job]] = {}

    async def run(self, model: Hashable, work: Callable[[], Any], seconds: float | None) -> Any:  # noqa: ANN401  # what the work gives
        """Do the work in a thread and give its result.

        Args:
            model: whose share of the threads it takes.
            work: what to do.
            seconds: how long the caller waits for it; None for one who did not say.

        Raises:
            Expired: it had not begun by then.
        """
        loop = asyncio.get_running_loop()
        job = _Job(work, loop.create_future())
        self._waiting.setdefault(model, deque()).append(job)
        timer = loop.call_later(seconds, self._expire, model, job) if seconds is not None else None
        self._start()
        try:
            return await job.result
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(model, job)

    def _expire(self, model: Hashable, job: _Job) -> None:
        if self._forget(model, job) and not job.result.done():
            job.result.set_exception(Expired("The caller's deadline passed before the model was free."))

    def _forget(self, model: Hashable, job: _Job) -> bool:
        """Take a job out of the queue; False if it was not there, because it has begun."""
        waiting = self._waiting.get(model, deque())
        if job not in waiting:
            return False
        waiting.remove(job)
        if not waiting:
            del self._waiting[model]
        return True

    def _start(self) -> None:
        while self._free:
            ready = [model for model in self._waiting if self._running[model] < self._most]
            if not ready:
                return
            model = min(ready, key=self._running.__getitem__)
            job = self._waiting[model][0]
            self._forget(model, job)
            self._free -= 1
            self._running[model] += 1
            run = asyncio.get_running_loop().run_in_executor(self._executor, job.work)
            run.add_done_callback(partial(self._done, model, job))

    def _done(self, model: Hashable, job: _Job, run: asyncio.Future[Any]) -> None:
        self._free += 1
        self._running[model] -= 1
        if not self._running[model]:
            del self._running[model]
        error = run.exception()
        if not job.result.done() and error is not None:
            job.result.set_exception(error)
        elif not job.result.done():
            job.result.set_result(run.result())
        self._start()
