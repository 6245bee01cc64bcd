"""Dynamic batching: concurrent requests for one model version share one feature read and one model run.

A batch starts when the event loop is idle (event_loop.py). With one caller that is immediately; under load it is when every call
that has arrived has been decoded, so batches grow with the load and no delay is configured. Responses that are sent together also
cost gRPC much less than responses that are sent one by one, which pays for most of the work.

While a caller has been alone for some requests, its row skips the queue and runs in the task of its own call.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ml_platform_server.call import current_correlation_id, set_correlation_id, set_deadline
from ml_platform_server.errors import PlatformError, deadline_exceeded, overloaded
from ml_platform_server.event_loop import when_idle
from ml_platform_server.observability.recorders import ModelMetrics
from ml_platform_server.observability.tracing import CallTrace, SharedTrace, current, link
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.outputs.prediction import Prediction

Outcome = Prediction | PlatformError
# Between two checks of a running batch.
CHECK_SECONDS = 0.02
# Rows wait at most this long for the event loop to become idle.
MAX_WAIT_SECONDS = 0.1
# After this many consecutive batches of one row the caller counts as alone; every RECHECK_EVERY-th row is queued all the same, to
# find out whether there are more callers by now.
LONG_SINGLE_STREAK = 4
RECHECK_EVERY = 8
# Characters of request ids in a log line of a batch: about sixty ids, and less than a pipe writes atomically.
LONGEST_IDS = 2000


class _Waiting(NamedTuple):
    row: Row
    deadline: float
    future: asyncio.Future[Outcome]
    trace: CallTrace | SharedTrace | None
    correlation_id: str


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """Limits of the batches of one model version.

    Args:
        max_batch_size: rows in one batch.
        max_concurrent: batches that run concurrently; rows that arrive meanwhile wait for the next batch.
        max_concurrent_slow: the same while batches run for longer than CHECK_SECONDS.
        max_queue_size: rows that may wait; further ones are refused with OVERLOADED.
    """

    max_batch_size: int = 256
    max_concurrent: int = 2
    max_concurrent_slow: int = 4
    max_queue_size: int = 2048


class DynamicBatcher:
    """The request queue of one model version.

    Args:
        answer: predicts a batch of rows; returns one outcome per row.
        batching: the limits.
        metrics: records queue times and errors.
    """

    def __init__(
        self, answer: Callable[[Sequence[Row]], Awaitable[Sequence[Outcome]]], batching: BatchingOptions, metrics: ModelMetrics
    ) -> None:
        self._metrics = metrics
        self._waiting_since = 0.0
        self._answer = answer
        self._batching = batching
        self._free = batching.max_concurrent
        self._borrowed = 0
        self._single_streak = 0
        self._queue: list[_Waiting] = []
        self._scheduled = False
        # One timer serves many batches: when it fires, it checks how long the oldest row has waited.
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, row: Row, deadline: float) -> Awaitable[Outcome]:
        """Predict one row, in a batch with other rows that arrive at the same time.

        Args:
            row: the row.
            deadline: when the caller stops waiting, in seconds of `time.monotonic`. Cancel the awaitable to stop sooner.

        Returns:
            The prediction, or the error of this row or of the model, DEADLINE_EXCEEDED included.

        Raises:
            PlatformError: OVERLOADED if the queue is full.
        """
        queue = self._queue
        if (
            self._single_streak >= LONG_SINGLE_STREAK
            and self._single_streak % RECHECK_EVERY
            and not queue
            and self._free == self._batching.max_concurrent
        ):
            return self._alone(row)
        if len(queue) >= self._batching.max_queue_size:
            error = overloaded("More predictions wait for this model than the server takes.")
            self._metrics.error(error.reason_name)
            raise error
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if not queue:
            self._waiting_since = time.monotonic()
        queue.append(_Waiting(row, deadline, future, current.get(), current_correlation_id()))
        if not self._free:
            return future
        if len(queue) >= self._batching.max_batch_size:
            self._start_batches()
        elif not self._scheduled:
            self._schedule()
        return future

    async def _alone(self, row: Row) -> Outcome:
        """Predict a row immediately in the caller's task, so that the caller's deadline and cancellation apply to all of it."""
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

    def _schedule(self) -> None:
        """Start batches when the event loop is idle."""
        self._scheduled = True
        when_idle(self._start_batches)
        if self._timer is None:
            self._timer = _call_later(MAX_WAIT_SECONDS, self._start_overdue)

    def _start_overdue(self) -> None:
        """Start batches of rows that have waited for too long: an overloaded event loop is never idle."""
        self._timer = None
        if not self._queue:
            return
        rest = self._waiting_since + MAX_WAIT_SECONDS - time.monotonic()
        if rest > 0:
            self._timer = _call_later(rest, self._start_overdue)
        else:
            self._start_batches()

    def _start_batches(self) -> None:
        """Start as many batches as there are permits."""
        self._scheduled = False
        while self._queue and self._free:
            taken, self._queue = self._queue[: self._batching.max_batch_size], self._queue[self._batching.max_batch_size :]
            # Rows whose callers have cancelled, or whose deadlines have passed, are dropped.
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
        if self._queue and not self._scheduled:
            self._schedule()

    def _borrow_permit(self) -> bool:
        """Borrow a permit so that another batch can run while a slow one is in flight. Return whether one was free."""
        if self._borrowed >= self._batching.max_concurrent_slow - self._batching.max_concurrent:
            return False
        self._borrowed += 1
        self._release()
        return True

    def _return_permit(self) -> None:
        self._borrowed -= 1
        self._free -= 1

    async def _run(self, batch: list[_Waiting]) -> None:
        set_correlation_id(_ids(batch))
        set_deadline(max(waiting.deadline for waiting in batch))
        current.set(link(waiting.trace for waiting in batch))
        watch = _BatchWatch(batch, self._borrow_permit)
        try:
            outcomes = await self._answer([waiting.row for waiting in batch])
        except PlatformError as error:
            outcomes = [error] * len(batch)
        except asyncio.CancelledError:
            for waiting in batch:
                waiting.future.cancel()
            raise
        except Exception as error:  # noqa: BLE001  # every call reports it, and none waits for ever
            for waiting in batch:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
            return
        finally:
            if watch.close():
                self._return_permit()
            self._release()
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(outcome)


class _BatchWatch:
    """Checks a running batch at intervals; most batches end before the first check.

    Fails rows whose deadlines have passed, and cancels the batch when no caller waits for it any more.
    """

    def __init__(self, batch: Sequence[_Waiting], slow: Callable[[], bool]) -> None:
        self._batch = batch
        self._borrow_permit = slow
        self._borrowed = False
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_later(CHECK_SECONDS, self._check)

    def close(self) -> bool:
        """Stop checking. Return whether a permit was borrowed because this batch was slow."""
        self._handle.cancel()
        return self._borrowed

    def _check(self) -> None:
        self._borrowed = self._borrowed or self._borrow_permit()
        _fail_late(self._batch, time.monotonic())
        if all(waiting.future.done() for waiting in self._batch):
            if self._task is not None:
                self._task.cancel()
        else:
            self._handle = self._loop.call_later(CHECK_SECONDS, self._check)


def _call_later(seconds: float, method: Callable[[], None]) -> asyncio.TimerHandle:
    """Call a method later unless its object has been freed: the timer must not keep a replaced model in memory."""
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
    """The request ids of a batch, comma-separated, cut to what fits into a log line."""
    if len(batch) == 1:
        return batch[0].correlation_id
    ids = ",".join([waiting.correlation_id for waiting in batch if waiting.correlation_id])
    return ids if len(ids) <= LONGEST_IDS else f"{ids[: ids.rindex(',', 0, LONGEST_IDS)]},..."
