"""The watch hub: one poller a job, as long as anybody watches, and a slot for the newest state per watcher."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import Job, WatchEvent, WatchJobResponse
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.clock import Clock
from ml_platform_server.jobs.jobs import ENDED, PollResult
from ml_platform_server.settings import JobSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

log = structlog.get_logger(__name__)

SNAPSHOT_TIMEOUT = 1.0
"""Seconds that the first message of a watch waits for a job's runs, and for what follows from its end."""

TERMINAL_TIMEOUT = 10.0
"""The same for the last message."""

Poll = Callable[[str, float], Awaitable[PollResult]]

LONGEST_PAUSE = 30.0
"""Seconds between two looks at a job, however often the looks before failed."""


class WatchHub:
    """Streams of the states of jobs.

    Args:
        read: polls a job, and waits so many seconds for what is an addition; what it raises at first is what the watcher
            gets.
        settings: the intervals.
        clock: what waits.
    """

    def __init__(self, *, read: Poll, settings: JobSettings, clock: Clock) -> None:
        self._read = read
        self._settings = settings
        self._clock = clock
        self._pollers: dict[str, _Poller] = {}
        self._closed = False

    @property
    def polled(self) -> frozenset[str]:
        """The jobs that are being looked at now."""
        return frozenset(self._pollers)

    async def watch(self, job_id: str, resume_after: int = 0) -> AsyncGenerator[WatchJobResponse]:
        """Tell how a job goes: a SNAPSHOT, each CHANGE, HEARTBEATs in between, one TERMINAL. Close it when done with it.

        Raises:
            PlatformError: what `read` raises on the first look (JOB_NOT_FOUND among it); SHUTTING_DOWN when the server
                stops, WATCH_EXPIRED after `max_watch_duration`: the caller may resume with `resume_after`.
        """
        age_limit = self._clock.monotonic() + self._settings.max_watch_duration
        sequence = resume_after
        event = jobs_pb2.WATCH_EVENT_SNAPSHOT
        with self._subscribed(job_id) as watcher:
            while True:
                news = await watcher.next(self._patience(event, age_limit))
                if news is None and self._clock.monotonic() >= age_limit:
                    raise _watch_expired(self._settings.max_watch_duration)
                if news is None:
                    sequence += 1
                    yield _message(jobs_pb2.WATCH_EVENT_HEARTBEAT, sequence, self._clock.now())
                    continue
                if event == jobs_pb2.WATCH_EVENT_SNAPSHOT or news.job.state not in ENDED:
                    sequence += 1
                    yield _message(event, sequence, news.seen, news.job)
                event = jobs_pb2.WATCH_EVENT_CHANGE
                if news.last:
                    yield _message(jobs_pb2.WATCH_EVENT_TERMINAL, sequence + 1, news.seen, news.job)
                    return

    async def open(self) -> None:
        """Nothing to do: pollers begin with the first watcher."""

    async def close(self) -> None:
        """End every watch with SHUTTING_DOWN, and refuse new ones."""
        self._closed = True
        pollers = list(self._pollers.values())
        for poller in pollers:
            poller.end_with(_shutting_down())
        self._pollers.clear()
        await asyncio.gather(*(poller.stop() for poller in pollers))

    def _patience(self, event: WatchEvent.ValueType, age_limit: float) -> float:
        """Seconds to wait for news. Nothing comes before the snapshot, so no heartbeat does."""
        left = max(0.0, age_limit - self._clock.monotonic())
        return left if event == jobs_pb2.WATCH_EVENT_SNAPSHOT else min(left, self._settings.heartbeat_interval)

    @contextmanager
    def _subscribed(self, job_id: str) -> Iterator[_Watcher]:
        if self._closed:
            raise _shutting_down()
        poller = self._pollers.get(job_id)
        if poller is None or poller.ended:
            poller = _Poller(job_id, read=self._read, interval=self._settings.poll_interval, clock=self._clock)
            self._pollers[job_id] = poller
            poller.start()
        watcher = poller.join()
        try:
            yield watcher
        finally:
            poller.leave(watcher)
            if poller.unwatched:
                poller.cancel()
                if self._pollers.get(job_id) is poller:
                    del self._pollers[job_id]


@dataclass(frozen=True, slots=True)
class _Observation:
    """A state of a job, and when it was seen. The last one is the end, with all that belongs to it."""

    job: Job
    seen: datetime
    last: bool


class _Watcher:
    """A slot for the newest state: a slow reader misses states that newer ones replaced, and nothing piles up."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = asyncio.Event()
        self._news: _Observation | None = None
        self._error: PlatformError | None = None

    def put(self, news: _Observation) -> None:
        self._news = news
        self._changed.set()

    def end_with(self, error: PlatformError) -> None:
        self._error = error
        self._changed.set()

    async def next(self, patience: float) -> _Observation | None:
        """Wait for a state newer than the last one returned; None if there is none in time."""
        await self._clock.wait(self._changed, patience)
        news, self._news = self._news, None
        if news is None and self._error is not None:
            raise self._error
        if self._error is None:
            self._changed.clear()
        return news


class _Poller:
    """Polls one job until it ends or has no watchers."""

    def __init__(
        self, job_id: str, *, read: Callable[[str, float], Awaitable[PollResult]], interval: float, clock: Clock
    ) -> None:
        self._job_id = job_id
        self._read = read
        self._interval = interval
        self._clock = clock
        self._watchers: set[_Watcher] = set()
        self._newest: _Observation | None = None
        self._never = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._incomplete = False
        self.ended = False

    @property
    def unwatched(self) -> bool:
        return not self._watchers

    def start(self) -> None:
        # A context of its own: the poller outlives the call that began it, and with it that call's deadline and request id.
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._poll(), name=f"poll {self._job_id}", context=contextvars.Context())

    def cancel(self) -> None:
        if self._task:
            self._task.cancel()

    async def stop(self) -> None:
        self.cancel()
        if self._task:
            await asyncio.wait([self._task])

    def join(self) -> _Watcher:
        watcher = _Watcher(self._clock)
        if self._newest:
            watcher.put(self._newest)
        self._watchers.add(watcher)
        return watcher

    def leave(self, watcher: _Watcher) -> None:
        self._watchers.discard(watcher)

    def end_with(self, error: PlatformError) -> None:
        self.ended = True
        for watcher in self._watchers:
            watcher.end_with(error)

    async def _poll(self) -> None:
        failures = 0
        while not self.ended:
            try:
                # The first message comes at once, with what is known; the last one has to be complete.
                final = self._newest is not None
                self._publish(await self._read(self._job_id, TERMINAL_TIMEOUT if final else SNAPSHOT_TIMEOUT), final=final)
                failures = 0
            except Exception as error:  # noqa: BLE001  # whatever goes wrong in one look, the next may go well
                failures += 1
                self._look_failed(error, failures)
            if not self.ended and not self._incomplete:
                await self._clock.wait(self._never, min(LONGEST_PAUSE, self._interval * 2 ** min(failures, 10)))

    def _publish(self, result: PollResult, *, final: bool) -> None:
        over = result.job.state in ENDED
        # What came too late for the first poll gets another one with a longer timeout, and no further one.
        self.ended = over and (result.complete or final)
        self._incomplete = over and not self.ended
        # Compared as bytes, because a metric that is not a number does not equal itself.
        if self._newest and not self.ended and _bytes(self._newest.job) == _bytes(result.job):
            return
        self._newest = _Observation(result.job, self._clock.now(), last=self.ended)
        for watcher in self._watchers:
            watcher.put(self._newest)

    def _look_failed(self, error: Exception, failures: int) -> None:
        self._incomplete = False
        known = isinstance(error, PlatformError)
        log.warning("job_poll_failed", job_id=self._job_id, failures=failures, error=str(error), exc_info=not known)
        if self._newest is None:
            self.end_with(error if isinstance(error, PlatformError) else _internal_error())


def _message(event: WatchEvent.ValueType, sequence: int, seen: datetime, job: Job | None = None) -> WatchJobResponse:
    message = WatchJobResponse(event=event, sequence=sequence, job=job)
    message.observe_time.FromDatetime(seen)
    return message


def _bytes(job: Job) -> bytes:
    return job.SerializeToString(deterministic=True)


def _shutting_down() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_SHUTTING_DOWN,
        "The server is shutting down. The job goes on.",
        remedy="Watch again with resume_after set to the last sequence seen.",
        retry_after=1.0,
    )


def _watch_expired(limit: float) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_WATCH_EXPIRED,
        f"This watch has lasted as long as a watch may, {limit:g} seconds. The job goes on.",
        remedy="Watch again with resume_after set to the last sequence seen.",
        retry_after=0.0,
    )


def _internal_error() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_INTERNAL,
        "The server could not look at the job.",
        remedy="Quote the correlation id when you ask the server's operator for help.",
    )
