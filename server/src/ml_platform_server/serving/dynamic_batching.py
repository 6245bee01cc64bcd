"""Gathers concurrent requests for one model version into batches: one feature read and one model run for all of them.

What has come is taken when the event loop has nothing else to do (event_loop.py): with one caller that is at once; under load it
is when every call that has arrived has been read, so batches grow with the load by themselves. Answers that leave together also
cost gRPC much less than answers that leave one by one, which pays for most of the work.

A caller who was alone the last times gathers with nobody: the row is answered in the task of its own call.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_platform_server.call import current_request_id, set_deadline, set_request_id
from ml_platform_server.errors import PlatformError, deadline_exceeded, overloaded
from ml_platform_server.event_loop import when_idle
from ml_platform_server.observability.recorders import ModelMetrics
from ml_platform_server.observability.tracing import CallTrace, SharedTrace, current, link
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.outputs.prediction import Prediction

Outcome = Prediction | PlatformError
# Between two looks at a batch that takes long.
LOOK_SECONDS = 0.02
# Rows wait no longer than this for the loop to run out of work.
MAX_WAIT_SECONDS = 0.1
# So many batches of one row make a lone caller, and once in so many rows it is looked whether there is another by now.
LONG_SINGLE_STREAK = 4
RECHECK_EVERY = 8
# Characters of the request ids of a batch in a log line: some sixty ids, and less than a pipe takes whole.
LONGEST_IDS = 2000


class _Waiting(NamedTuple):
    row: Row
    deadline: float
    future: asyncio.Future[Outcome]
    trace: CallTrace | SharedTrace | None
    request_id: str


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """How rows are gathered.

    Args:
        largest: rows in a batch at most.
        at_once: batches that may run at once; rows that come meanwhile gather for the next one.
        slow_at_once: the same, while batches take long.
        max_queue_size: rows that may wait; more are refused.
    """

    largest: int = 256
    at_once: int = 2
    slow_at_once: int = 4
    max_queue_size: int = 2048


class DynamicBatcher:
    """The queue of one model version.

    Args:
        answer: answers N rows at once.
        batching: how they are gathered.
        metrics: where waits and errors are counted.
    """

    def __init__(
        self, answer: Callable[[Sequence[Row]], Awaitable[Sequence[Outcome]]], batching: BatchingOptions, metrics: ModelMetrics
    ) -> None:
        self._metrics = metrics
        self._waiting_since = 0.0
        self._answer = answer
        self._batching = batching
        self._free = batching.at_once
        self._lent = 0
        self._single_streak = 0
        self._queue: list[_Waiting] = []
        self._called = False
        # One timer for many batches: it looks how long the present rows have waited when it fires.
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, row: Row, deadline: float) -> Awaitable[Outcome]:
        """Have one row answered, together with those that come at the same time.

        Args:
            row: the row.
            deadline: when its caller stops waiting, on the clock of `time.monotonic`. One who stops sooner cancels this.

        Returns:
            The answer, or what is wrong with this row or with the model, DEADLINE_EXCEEDED included.

        Raises:
            PlatformError: OVERLOADED when too many wait.
        """
        queue = self._queue
        if (
            self._single_streak >= LONG_SINGLE_STREAK
            and self._single_streak % RECHECK_EVERY
            and not queue
            and self._free == self._batching.at_once
        ):
            return self._alone(row)
        if len(queue) >= self._batching.max_queue_size:
            error = overloaded("More predictions wait for this model than the server takes.")
            self._metrics.error(error.reason_name)
            raise error
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not queue:
            self._waiting_since = time.monotonic()
        queue.append(_Waiting(row, deadline, future, current.get(), current_request_id()))
        if not self._free:
            return future
        if len(queue) >= self._batching.largest:
            self._take()
        elif not self._called:
            self._soon()
        return future

    async def _alone(self, row: Row) -> Outcome:
        """Answer a row at once, in the task of its caller, whose deadline and whose leaving hold for all that is done."""
        self._free -= 1
        self._single_streak += 1
        self._metrics.queue_wait.record(0.0)
        try:
            (outcome,) = await self._answer((row,))
        except PlatformError as error:
            return error
        finally:
            self._release()
        return outcome

    def _soon(self) -> None:
        """Take what has come when the loop has nothing else to do."""
        self._called = True
        when_idle(self._take)
        if self._timer is None:
            self._timer = _call_later(MAX_WAIT_SECONDS, self._take_overdue)

    def _take_overdue(self) -> None:
        """Take what has waited for long: a loop that is overloaded always has something else to do."""
        self._timer = None
        if not self._queue:
            return
        rest = self._waiting_since + MAX_WAIT_SECONDS - time.monotonic()
        if rest > 0:
            self._timer = _call_later(rest, self._take_overdue)
        else:
            self._take()

    def _take(self) -> None:
        """Start as many batches as there may be."""
        self._called = False
        while self._queue and self._free:
            taken, self._queue = self._queue[: self._batching.largest], self._queue[self._batching.largest :]
            # Whoever left, or waits no more, costs nothing further.
            now = time.monotonic()
            self._metrics.queue_wait.record(now - self._waiting_since)
            self._waiting_since = now
            batch = [waiting for waiting in taken if not waiting.future.done() and waiting.deadline > now]
            _fail_late(taken, now)
            self._single_streak = self._single_streak + 1 if len(taken) == 1 else 0
            if batch:
                self._free -= 1
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _release(self) -> None:
        self._free += 1
        if self._queue and not self._called:
            self._soon()

    def _slow(self) -> bool:
        """Let another batch run beside one that takes long; whether that may be."""
        if self._lent >= self._batching.slow_at_once - self._batching.at_once:
            return False
        self._lent += 1
        self._release()
        return True

    def _quick_again(self) -> None:
        self._lent -= 1
        self._free -= 1

    async def _run(self, batch: list[_Waiting]) -> None:
        set_request_id(_ids(batch))
        set_deadline(max(waiting.deadline for waiting in batch))
        current.set(link(waiting.trace for waiting in batch))
        watch = _Watch(batch, self._slow)
        try:
            outcomes = await self._answer([waiting.row for waiting in batch])
        except PlatformError as error:
            outcomes = [error] * len(batch)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # unforeseen: each call reports it as its own, and none waits for ever
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        finally:
            if watch.close():
                self._quick_again()
            self._release()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(outcome)


class _Watch:
    """Looks now and then, while a batch runs, who still waits for it. Most batches are done before the first look.

    Who waited too long is told so, and a batch that nobody waits for any more is given up.
    """

    def __init__(self, batch: Sequence[_Waiting], slow: Callable[[], bool]) -> None:
        self._batch = batch
        self._slow = slow
        self._lent = False
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(LOOK_SECONDS, self._look)

    def close(self) -> bool:
        """Look no more; tells whether another batch was let in because this one took long."""
        self._handle.cancel()
        return self._lent

    def _look(self) -> None:
        self._lent = self._lent or self._slow()
        _fail_late(self._batch, time.monotonic())
        if all(waiting.future.done() for waiting in self._batch):
            if self._task is not None:
                self._task.cancel()
        else:
            self._handle = self._loop.call_later(LOOK_SECONDS, self._look)


def _call_later(seconds: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a method later, unless its object is gone by then: the timer does not keep a replaced model in memory."""
    weak = weakref.WeakMethod(method)

    def call() -> None:
        if (alive := weak()) is not None:
            alive()

    return asyncio.get_running_loop().call_later(seconds, call)


def _fail_late(waiting: Sequence[_Waiting], now: float) -> None:
    for each in waiting:
        if each.deadline <= now and not each.future.done():
            each.future.set_result(deadline_exceeded("The prediction"))


def _ids(batch: Sequence[_Waiting]) -> str:
    """The ids of the calls that are answered together, with commas between them, as far as a log line has room for them."""
    if len(batch) == 1:
        return batch[0].request_id
    ids = ",".join([waiting.request_id for waiting in batch if waiting.request_id])
    return ids if len(ids) <= LONGEST_IDS else f"{ids[: ids.rindex(',', 0, LONGEST_IDS)]},..."
