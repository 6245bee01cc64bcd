"""Watching jobs: what is told, how broken streams are mended, and that no stream is left behind."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

import ml_platform
from ml_platform import AsyncMLPlatform, MLPlatform, rpcs
from ml_platform.v1 import errors_pb2, jobs_pb2, training_pb2
from ml_platform_server.errors import PlatformError
from tests.support.fake_platform import Bare, FakePlatform, Hang

SHUTTING_DOWN = PlatformError(errors_pb2.ERROR_REASON_SHUTTING_DOWN, "Going.", remedy="Come back.", retry_after=0.01)
WATCH = rpcs.WATCH_JOB


def told(event: str, sequence: int, state: str = "running", **fields: Any) -> jobs_pb2.WatchJobResponse:
    """One message of a watch."""
    message = jobs_pb2.WatchJobResponse(event=jobs_pb2.WatchEvent.Value(f"WATCH_EVENT_{event}"), sequence=sequence)
    if event != "HEARTBEAT":
        number = jobs_pb2.JobState.Value(f"JOB_STATE_{state.upper()}")
        message.job.CopyFrom(jobs_pb2.Job(job_id="mlp-1", pipeline="dag", state=number, **fields))
    return message


@pytest.fixture
def job(platform: MLPlatform, fake: FakePlatform) -> Any:
    """A handle on a job that was just submitted."""
    queued = jobs_pb2.Job(job_id="mlp-1", pipeline="dag", state=jobs_pb2.JOB_STATE_QUEUED)
    fake.answer(rpcs.SUBMIT_TRAINING_JOB, training_pb2.SubmitTrainingJobResponse(job=queued))
    return platform.train_model("exp")


def test_a_watch_tells_states_and_ends(job: Any, fake: FakePlatform) -> None:
    """A watch yields the snapshot, the changes and the terminal update, without heartbeats, and the handle follows."""
    fake.answer(
        WATCH,
        [told("SNAPSHOT", 1, "queued"), told("HEARTBEAT", 2), told("CHANGE", 3), told("TERMINAL", 4, "success", best_run_id="r")],
    )
    updates = list(job.watch())
    assert [(each.event, each.sequence, each.job.state) for each in updates] == [
        ("snapshot", 1, "queued"),
        ("change", 3, "running"),
        ("terminal", 4, "success"),
    ]
    assert (job.status, job.finished, job.best_run_id) == ("success", True, "r")
    assert fake.calls(rpcs.GET_JOB) == []


def test_heartbeats_are_told_on_request(job: Any, fake: FakePlatform) -> None:
    """A heartbeat repeats the last state, for callers who want to hear it."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), told("HEARTBEAT", 2), told("TERMINAL", 3, "success")])
    assert [(each.event, each.job.state) for each in job.watch(heartbeats=True)][1] == ("heartbeat", "running")


@pytest.mark.parametrize(
    "fault",
    [SHUTTING_DOWN, Bare(grpc.StatusCode.UNAVAILABLE), Bare(grpc.StatusCode.INTERNAL), Bare(grpc.StatusCode.CANCELLED), None],
    ids=["shutting-down", "connection-lost", "reset", "cancelled-by-server", "ended-without-a-enum_name"],
)
def test_a_broken_stream_is_resumed(job: Any, fake: FakePlatform, fault: Any) -> None:
    """A stream that breaks is opened again after the last sequence seen; nothing is lost and the end is told once."""
    first: list[Any] = [told("SNAPSHOT", 1), told("HEARTBEAT", 7), *([fault] if fault else [])]
    fake.answer(WATCH, first, [told("SNAPSHOT", 8), told("TERMINAL", 9, "success")])
    assert [each.sequence for each in job.watch()] == [1, 8, 9]
    assert [call.request.resume_after for call in fake.calls(WATCH)] == [0, 7]


def test_a_server_that_restarts_is_waited_for(job: Any, fake: FakePlatform) -> None:
    """A watch survives the end of the server and its return."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()], [told("SNAPSHOT", 2), told("TERMINAL", 3, "success")])
    updates = iter(job.watch(patience=30))
    assert next(updates).sequence == 1
    fake.stop()
    restart = threading.Timer(0.3, fake.start)
    restart.start()
    assert [each.sequence for each in updates] == [2, 3]
    restart.join()


def test_a_server_that_stays_away_is_given_up(job: Any, fake: FakePlatform) -> None:
    """After the patience has run out, the watch raises."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), SHUTTING_DOWN], [SHUTTING_DOWN])
    with pytest.raises(ml_platform.Unavailable):
        list(job.watch(patience=0.2))


def test_a_server_that_never_was_there_is_given_up_soon(job: Any, fake: FakePlatform) -> None:
    """A watch that cannot even begin raises after the usual number of retries, whatever its patience."""
    fake.answer(WATCH, [SHUTTING_DOWN])
    with pytest.raises(ml_platform.Unavailable):
        list(job.watch(patience=1000))
    assert len(fake.calls(WATCH)) == 4


def test_a_refusal_is_not_resumed(job: Any, fake: FakePlatform) -> None:
    """An error with a reason of its own ends the watch at once."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), PlatformError(errors_pb2.ERROR_REASON_INTERNAL, "Oh.", remedy="Ask.")])
    with pytest.raises(ml_platform.Internal):
        list(job.watch())
    assert len(fake.calls(WATCH)) == 1


def test_leaving_the_loop_cancels_the_stream(fake: FakePlatform) -> None:
    """After a `break` the server hears that the watcher has gone, though nobody closed anything."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    with MLPlatform(fake.url, "k") as platform:
        for _update in platform.watch_training_job("mlp-1"):
            break
        assert fake.calls(WATCH)[0].gone.wait(timeout=10)


async def test_leaving_the_asynchronous_loop_cancels_the_stream(fake: FakePlatform) -> None:
    """The same holds for `async for`, and for a task that is cancelled while it watches."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    async with AsyncMLPlatform(fake.url, "k") as platform:
        async for _update in platform.watch_training_job("mlp-1"):
            break
        assert await asyncio.to_thread(fake.calls(WATCH)[0].gone.wait, 10)
        updates = platform.watch_training_job("mlp-1")
        await anext(updates)
        waiting = asyncio.create_task(updates.__anext__())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(fake.calls(WATCH)[1].gone.wait, 10)


def test_leaving_the_block_cancels_the_stream(job: Any, fake: FakePlatform) -> None:
    """A watch used as a context manager is cancelled at the end of the block, even while somebody holds it."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    with job.watch() as updates:
        assert next(iter(updates)).event == "snapshot"
    assert fake.calls(WATCH)[0].gone.wait(timeout=10)
    assert list(updates) == []


def test_wait_returns_the_finished_job(job: Any, fake: FakePlatform) -> None:
    """Waiting gives the job back as it ended, and tells every update to who asks."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), told("TERMINAL", 2, "success", best_run_id="r1")])
    heard: list[str] = []
    done = job.wait(progress=lambda update: heard.append(update.event))
    assert (done.status, done.best_run_id, done["best_run_id"]) == ("success", "r1", "r1")
    assert heard == ["snapshot", "terminal"]


def test_wait_raises_when_the_job_fails(job: Any, fake: FakePlatform) -> None:
    """A failed job raises with the task and the reason, unless that is not wanted."""
    fake.answer(WATCH, [told("TERMINAL", 1, "failed", message="ValueError: no rows", failed_task_id="train")])
    with pytest.raises(ml_platform.JobFailed, match=r"mlp-1 \(dag\) failed in task 'train': ValueError: no rows") as caught:
        job.wait()
    assert caught.value.task == "train"
    assert job.wait(raise_on_failure=False).state == "failed"


def test_wait_ends_in_time(job: Any, fake: FakePlatform) -> None:
    """When the time runs out, the error says so, the stream is cancelled, and the job goes on."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    with pytest.raises(ml_platform.DeadlineExceeded, match=r"mlp-1 was still running after 0\.2 seconds"):
        job.wait(timeout=0.2)
    assert fake.calls(WATCH)[0].gone.wait(timeout=10)


def test_wait_prints_what_changes(job: Any, fake: FakePlatform, capsys: pytest.CaptureFixture[str]) -> None:
    """With `progress=True` each change of a task is one line, and the end tells the best run."""
    running = [jobs_pb2.Task(task_id="train", state=jobs_pb2.TASK_STATE_RUNNING, try_number=1, map_index=-1)]
    done = [jobs_pb2.Task(task_id="train", state=jobs_pb2.TASK_STATE_SUCCESS, try_number=1, map_index=-1)]
    fake.answer(
        WATCH,
        [
            told("SNAPSHOT", 1, "running", tasks=running),
            told("CHANGE", 2, "running", tasks=running),
            told("TERMINAL", 3, "success", tasks=done, best_run_id="r1", metrics={"accuracy": 0.91}),
        ],
    )
    job.wait(progress=True)
    lines = [line.split("  ", 1)[1].strip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "job mlp-1 is running",
        "train: running",
        "train: success",
        "job mlp-1 ended with success; accuracy 0.91; best run r1",
    ]


@pytest.fixture
def ctrl_c_works() -> Iterator[None]:
    """Python's own handler of SIGINT, which it does not install where a shell started the tests in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_works")
def test_ctrl_c_ends_a_wait_at_once(fake: FakePlatform) -> None:
    """Ctrl-C in a blocking wait is heard within moments and cancels the stream."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    with MLPlatform(fake.url, "k") as platform:
        updates = iter(platform.watch_training_job("mlp-1"))
        next(updates)
        threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(updates)
    assert time.monotonic() - started < 3
    assert fake.calls(WATCH)[0].gone.wait(timeout=10)


async def test_a_blocking_client_works_beside_a_running_loop(fake: FakePlatform) -> None:
    """In a notebook, whose cells run inside an event loop, the blocking client works as anywhere else."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), told("TERMINAL", 2, "success")])
    with MLPlatform(fake.url, "k") as platform:
        assert [each.event for each in platform.watch_training_job("mlp-1")] == ["snapshot", "terminal"]


def test_best_run_id_looks_again_while_the_job_goes_on(fake: FakePlatform) -> None:
    """On the synchronous API, the best run is asked for anew until the job has ended."""
    running = jobs_pb2.Job(job_id="mlp-1", state=jobs_pb2.JOB_STATE_RUNNING)
    ended = jobs_pb2.Job(job_id="mlp-1", state=jobs_pb2.JOB_STATE_SUCCESS, best_run_id="r1")
    jobs = [running, running, ended]
    fake.answer(rpcs.GET_JOB, *(jobs_pb2.GetJobResponse(job=each) for each in jobs))
    with MLPlatform(fake.url, "k") as platform:
        job = platform.get_training_job("mlp-1")
        assert [job.best_run_id, job.best_run_id, job.best_run_id] == ["", "r1", "r1"]
    assert len(fake.calls(rpcs.GET_JOB)) == 3


async def test_closing_ends_what_other_tasks_wait_for(fake: FakePlatform) -> None:
    """A watch closed by another task just ends; a call under way says that the client is closed; no task counts as cancelled."""
    fake.answer(WATCH, [told("SNAPSHOT", 1), Hang()])
    fake.answer(rpcs.WHO_AM_I, Hang())
    platform = AsyncMLPlatform(fake.url, "k")
    updates = platform.watch_training_job("mlp-1")
    await anext(updates)
    watching, asking = asyncio.create_task(anext(updates, None)), asyncio.create_task(platform.whoami())
    await asyncio.to_thread(fake.wait_for, rpcs.WHO_AM_I)
    await updates.close()
    assert await watching is None
    await platform.close()
    with pytest.raises(ml_platform.ConfigurationError, match="closed"):
        await asking
