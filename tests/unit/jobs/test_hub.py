"""The watch hub, with a clock and looks of the test's own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.jobs_pb2 import Job, WatchEvent, WatchJobResponse
from ml_platform_server.call import remaining, set_deadline
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.jobs.hub import SNAPSHOT_TIMEOUT, TERMINAL_TIMEOUT, WatchHub
from ml_platform_server.jobs.jobs import PollResult
from ml_platform_server.settings import JobSettings
from tests.support.jobs import FakeClock, a_job, tune_gc

SETTINGS = JobSettings(poll_interval=1.0, heartbeat_interval=10.0, max_watch_duration=100.0)
RUNNING = jobs_pb2.JOB_STATE_RUNNING
SUCCESS = jobs_pb2.JOB_STATE_SUCCESS
FAILED = jobs_pb2.JOB_STATE_FAILED


class Looks:
    """A job that is what the test says it is, and counts who looks."""

    def __init__(self) -> None:
        self.job = a_job()
        self.error: Exception | None = None
        self.count = 0
        self.timeouts: list[float] = []
        self.complete = True
        self.fails_at = 0

    async def __call__(self, job_id: str, wait: float) -> PollResult:
        self.count += 1
        self.timeouts.append(wait)
        if self.error:
            raise self.error
        if self.count == self.fails_at:
            raise backend_unavailable("The store")
        job = Job()
        job.CopyFrom(self.job)
        return PollResult(job, self.complete)


class Reader:
    """Somebody who reads a stream as fast as it comes."""

    def __init__(self, stream: AsyncGenerator[WatchJobResponse]) -> None:
        self.messages: list[WatchJobResponse] = []
        self.error: PlatformError | None = None
        self._stream = stream
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with aclosing(self._stream) as stream:
                async for message in stream:
                    self.messages.append(message)
        except PlatformError as error:
            self.error = error

    @property
    def ended(self) -> bool:
        return self._task.done()

    @property
    def events(self) -> list[str]:
        return [WatchEvent.Name(message.event).removeprefix("WATCH_EVENT_") for message in self.messages]

    @property
    def told(self) -> list[str]:
        return [message.job.message for message in self.messages if message.HasField("job")]

    @property
    def sequences(self) -> list[int]:
        return [message.sequence for message in self.messages]

    async def leave(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
async def hub(clock: FakeClock, looks: Looks) -> AsyncIterator[WatchHub]:
    hub = WatchHub(read=looks, settings=SETTINGS, clock=clock)
    yield hub
    await hub.close()


@asynccontextmanager
async def reading(hub: WatchHub, resume_after: int = 0) -> AsyncIterator[Reader]:
    reader = Reader(hub.watch("mlp-1", resume_after))
    await tune_gc()
    try:
        yield reader
    finally:
        await reader.leave()


async def test_a_stream_is_a_snapshot_then_changes_then_one_terminal(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A watcher hears the state as it is, each later state once, the final one as TERMINAL, and then the stream ends."""
    looks.job.message = "one"
    async with reading(hub) as reader:
        looks.job.message = "two"
        await clock.advance(5)
        looks.job.message, looks.job.state = "three", SUCCESS
        await clock.advance(1)
        assert (reader.events, reader.told) == (["SNAPSHOT", "CHANGE", "TERMINAL"], ["one", "two", "three"])
        assert reader.sequences == [1, 2, 3]
        assert (reader.ended, reader.error) == (True, None)


async def test_a_job_that_fails_ends_its_stream_well(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """The failure is in the job, not in the stream."""
    async with reading(hub) as reader:
        looks.job.state = FAILED
        await clock.advance(1)
        assert (reader.messages[-1].event, reader.messages[-1].job.state) == (jobs_pb2.WATCH_EVENT_TERMINAL, FAILED)
        assert (reader.ended, reader.error) == (True, None)


async def test_a_finished_job_is_a_snapshot_and_a_terminal(hub: WatchHub, looks: Looks) -> None:
    """Watching a job that has ended tells its state twice: as the snapshot that comes always, and as the end."""
    looks.job.state = SUCCESS
    async with reading(hub) as reader:
        assert (reader.events, reader.sequences) == (["SNAPSHOT", "TERMINAL"], [1, 2])
        assert (reader.ended, hub.polled, looks.count) == (True, frozenset(), 1)


async def test_sequences_go_on_from_where_the_watcher_was(hub: WatchHub, clock: FakeClock) -> None:
    """After resume_after=41 the numbers are 42, 43 and so on, heartbeats included."""
    async with reading(hub, resume_after=41) as reader:
        await clock.advance(20)
        assert reader.events == ["SNAPSHOT", "HEARTBEAT", "HEARTBEAT"]
        assert reader.sequences == [42, 43, 44]


async def test_silence_is_broken_by_heartbeats_without_a_state(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A heartbeat comes only when nothing else came for the interval, and holds no job."""
    async with reading(hub) as reader:
        await clock.advance(8)
        looks.job.message = "news"
        await clock.advance(9)
        assert reader.events == ["SNAPSHOT", "CHANGE"]
        await clock.advance(3)
        assert reader.events == ["SNAPSHOT", "CHANGE", "HEARTBEAT"]
        assert not reader.messages[-1].HasField("job")


async def test_many_watchers_share_one_poller(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """However many watch a job, it is looked at once an interval, and each watcher hears everything."""
    async with reading(hub) as first, reading(hub) as second, reading(hub) as third:
        looks.job.message = "news"
        await clock.advance(4)
        assert looks.count == 5
        assert [reader.told for reader in (first, second, third)] == [["", "news"]] * 3


async def test_who_comes_later_gets_the_newest_state_as_snapshot(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A second watcher's snapshot is what the poller saw last, without another look."""
    async with reading(hub):
        looks.job.message = "news"
        await clock.advance(1)
        before = looks.count
        async with reading(hub) as late:
            assert (late.events, late.told, looks.count) == (["SNAPSHOT"], ["news"], before)


async def test_no_watcher_means_no_poller(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """When the last watcher leaves, nobody looks at the job any more; one that stays keeps the poller."""
    async with reading(hub):
        async with reading(hub):
            pass
        assert hub.polled == {"mlp-1"}
    assert hub.polled == frozenset()
    before = looks.count
    await clock.advance(10)
    assert looks.count == before


async def test_a_slow_reader_gets_the_newest_state_only(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A reader that does not read for a while hears the newest state next; what it replaced is not kept."""
    async with aclosing(hub.watch("mlp-1")) as stream:
        assert (await anext(stream)).event == jobs_pb2.WATCH_EVENT_SNAPSHOT
        for number in range(50):
            looks.job.message = f"state {number}"
            await clock.advance(1)
        looks.job.message, looks.job.state = "the end", SUCCESS
        await clock.advance(1)
        last = await anext(stream)
        assert (last.event, last.job.message, last.sequence) == (jobs_pb2.WATCH_EVENT_TERMINAL, "the end", 2)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


async def test_an_unknown_job_fails_before_anything_is_told(hub: WatchHub, looks: Looks) -> None:
    """What the first look raises is the stream's error, and no poller stays behind."""
    looks.error = PlatformError(errors_pb2.ERROR_REASON_JOB_NOT_FOUND, "none", remedy="none")
    async with reading(hub) as reader:
        assert (reader.messages, reader.error) == ([], looks.error)
    assert hub.polled == frozenset()


async def test_a_backend_that_is_down_for_a_while_does_not_end_the_stream(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """While looks fail, heartbeats go on and looks get rarer; when they succeed again, the watcher hears the news."""
    async with reading(hub) as reader:
        looks.error = backend_unavailable("Airflow")
        before = looks.count
        await clock.advance(25)
        assert reader.events == ["SNAPSHOT", "HEARTBEAT", "HEARTBEAT"]
        # At 1, then after 2, 4, 8: the next would be at 31.
        assert looks.count - before == 4
        looks.error, looks.job.message = None, "back"
        await clock.advance(10)
        assert (reader.events[-1], reader.told[-1], reader.error) == ("CHANGE", "back", None)


async def test_a_look_that_fails_unforeseen_is_survived(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A defect in one look is logged and does not end the stream either."""
    async with reading(hub) as reader:
        looks.error = ZeroDivisionError("a defect")
        await clock.advance(1)
        looks.error, looks.job.message = None, "back"
        await clock.advance(4)
        assert (reader.told[-1], reader.error) == ("back", None)


async def test_shutdown_ends_every_stream_with_a_retry(hub: WatchHub, looks: Looks) -> None:
    """Closing the hub gives SHUTTING_DOWN with RetryInfo to who watches and to who comes afterwards."""
    async with reading(hub) as reader:
        await hub.close()
        await tune_gc()
        async with reading(hub) as late:
            for error in (reader.error, late.error):
                assert error is not None
                assert (error.reason_name, error.code.name, error.retry_after) == ("SHUTTING_DOWN", "UNAVAILABLE", 1.0)
    assert hub.polled == frozenset()


async def test_a_watch_that_is_too_old_asks_to_come_back(hub: WatchHub, clock: FakeClock) -> None:
    """After max_watch_duration the stream ends with WATCH_EXPIRED and says how to go on."""
    async with reading(hub) as reader:
        await clock.advance(100)
        assert reader.error is not None
        error = reader.error
        assert (error.reason_name, error.code.name, error.retry_after) == ("WATCH_EXPIRED", "UNAVAILABLE", 0.0)
        assert "resume_after" in reader.error.remedy


async def test_the_poller_outlives_the_deadline_of_the_call_that_began_it(clock: FakeClock) -> None:
    """A poller works in a context of its own, so the first watcher's deadline does not cut the looks made for the second."""
    deadlines: list[float] = []

    async def look(job_id: str, wait: float) -> PollResult:
        deadlines.append(remaining(1234.0))
        return PollResult(a_job())

    hub = WatchHub(read=look, settings=SETTINGS, clock=clock)
    context = contextvars.copy_context()
    context.run(set_deadline, 0.0)
    reader = context.run(Reader, hub.watch("mlp-1"))
    await clock.advance(1)
    assert deadlines == [1234.0, 1234.0]
    await reader.leave()
    await hub.close()


async def test_a_metric_that_is_not_a_number_is_no_change(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """NaN does not equal itself; a job that holds one is still told only once."""
    looks.job.metrics["loss"] = float("nan")
    async with reading(hub) as reader:
        await clock.advance(5)
        assert reader.events == ["SNAPSHOT"]


async def test_the_first_message_does_not_wait_for_what_the_last_one_waits_for(hub: WatchHub, looks: Looks) -> None:
    """The snapshot of an ended job comes with what is known at once; the terminal message after one more, patient look."""
    looks.job.state, looks.complete = SUCCESS, False
    async with reading(hub) as reader:
        assert (reader.events, reader.sequences, reader.ended) == (["SNAPSHOT", "TERMINAL"], [1, 2], True)
    assert looks.timeouts == [SNAPSHOT_TIMEOUT, TERMINAL_TIMEOUT]


async def test_the_end_of_a_watched_job_is_told_once_complete_or_not(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """A look that waited and still lacks the runs is the last one."""
    async with reading(hub) as reader:
        looks.job.state, looks.complete = SUCCESS, False
        await clock.advance(1)
        assert (reader.events, reader.sequences, reader.ended) == (["SNAPSHOT", "TERMINAL"], [1, 2], True)
    assert looks.timeouts == [SNAPSHOT_TIMEOUT, TERMINAL_TIMEOUT]


async def test_a_patient_look_that_fails_is_made_again_after_a_while(hub: WatchHub, clock: FakeClock, looks: Looks) -> None:
    """Not at once, as the look at what came too late is: whatever fails needs time."""
    looks.job.state, looks.complete = SUCCESS, False
    looks.fails_at = 2
    async with reading(hub) as reader:
        assert (reader.events, looks.count) == (["SNAPSHOT"], 2)
        await clock.advance(2)
        assert (reader.events, looks.count) == (["SNAPSHOT", "TERMINAL"], 3)
