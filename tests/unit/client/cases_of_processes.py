"""Clients in other processes: forked ones and pickled ones."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ml_platform import AsyncMLPlatform, ConfigurationError, MLPlatform, MLPlatformError
from ml_platform.config import ClientConfig
from ml_platform.sync.jobs import TrainingJob
from tests.support.fake_process import fake_process


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a fake platform."""
    with fake_process() as address:
        yield address


def in_a_fork(work: Callable[[], Any]) -> Any:
    """What a forked process makes of a function; a process that hangs fails the test."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def run() -> None:
        try:
            theirs.send(work())
        except MLPlatformError as error:
            theirs.send(repr(error))

    process = context.Process(target=run)
    process.start()
    try:
        assert ours.poll(60), "the forked process hangs"
        return ours.recv()
    finally:
        process.kill()
        process.join()


def test_a_forked_process_has_a_connection_of_its_own(url: str):
    """However busy the threads of the parent are, its client works in every child, and goes on in the parent."""
    stop = threading.Event()
    with MLPlatform(url, "k") as platform:
        expected = platform.whoami().principal

        def ask() -> None:
            while not stop.is_set():
                platform.whoami()

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            answers = [in_a_fork(lambda: platform.whoami().principal) for _ in range(10)]
            assert answers == [expected] * 10
            assert in_a_fork(lambda: in_a_fork_of_the_fork(platform)) == expected
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert platform.whoami().principal == expected


def test_a_fork_beside_calls_of_threads_and_of_an_event_loop_crashes_no_child(url: str):
    """Both are busy while the process forks: what gRPC has queued is not forked along."""
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            platform.whoami()

    async def ask_on_a_loop() -> None:
        async with AsyncMLPlatform(url, "k") as other:
            while not stop.is_set():
                await other.whoami()

    with MLPlatform(url, "k") as platform:
        work = [ask, ask, ask, lambda: asyncio.run(ask_on_a_loop())]
        threads = [threading.Thread(target=each) for each in work]
        for thread in threads:
            thread.start()
        try:
            assert [in_a_fork(lambda: platform.whoami().principal) for _ in range(50)] == ["ann"] * 50
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_a_fork_does_not_wait_for_a_call_that_gets_no_answer(url: str):
    """It waits a moment; the child works, and so does the parent."""
    with MLPlatform(url, "k", timeout=30, retries=0) as platform:

        def ask() -> None:
            with pytest.raises(MLPlatformError):
                platform.health()

        hanging = threading.Thread(target=ask)
        hanging.start()
        time.sleep(0.5)
        with pytest.warns(RuntimeWarning, match="while 1 calls"):
            assert in_a_fork(lambda: platform.whoami().principal) == "ann"
        assert platform.whoami().principal == "ann"
        platform.close()
        hanging.join()


async def test_an_event_loop_that_forks_does_not_wait_for_its_own_calls(url: str):
    """They cannot end before it goes on; they do so afterwards."""
    async with AsyncMLPlatform(url, "k") as platform:
        calls = [asyncio.ensure_future(platform.whoami()) for _ in range(20)]
        await asyncio.sleep(0)
        with MLPlatform(url, "k") as other:
            assert in_a_fork(lambda: other.whoami().principal) == "ann"
        assert {call.principal for call in await asyncio.gather(*calls)} == {"ann"}


def in_a_fork_of_the_fork(platform: MLPlatform) -> str:
    """Use the client, and again in a process that is forked from this one."""
    platform.whoami()
    answer: str = in_a_fork(lambda: platform.whoami().principal)
    return answer


@pytest.mark.parametrize("new", [False, True], ids=["the parent's client", "a new client"])
def test_a_fork_is_refused_where_grpc_has_no_threads_in_it(url: str, new: bool, monkeypatch: pytest.MonkeyPatch):
    """Calls would hang for ever, beyond their deadlines; the parent goes on."""
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
    with MLPlatform(url, "k") as platform:
        platform.whoami()
        answer = in_a_fork(lambda: (MLPlatform(url, "k") if new else platform).whoami().principal)
        assert "GRPC_ENABLE_FORK_SUPPORT" in answer
        assert platform.whoami().principal == "ann"


def test_a_client_that_is_closed_in_a_fork_goes_on_in_the_parent(url: str):
    """Closing the client in a child leaves the parent's connection alone, and the child's client closed."""
    with MLPlatform(url, "k") as platform:
        platform.whoami()

        def close() -> str:
            platform.close()
            return repr(platform.whoami())

        assert "This client is closed." in in_a_fork(close)
        assert platform.whoami()


async def test_an_asynchronous_client_refuses_to_work_in_a_fork(url: str):
    """What asyncio has of gRPC does not survive a fork: the child gets an error that says what to do, and does not hang."""
    async with AsyncMLPlatform(url, "k") as platform:
        await platform.whoami()
        answer = await asyncio.to_thread(in_a_fork, lambda: asyncio.run(platform.whoami()))
        assert "forked from one that used gRPC with asyncio" in answer
        assert await platform.whoami()


async def test_a_new_asynchronous_client_is_refused_in_a_fork_of_a_process_that_has_one(url: str):
    """Where it would hang or crash: what gRPC keeps for asyncio belongs to all channels and servers of a process."""

    async def ask() -> object:
        async with AsyncMLPlatform(url, "k") as other:
            return await other.whoami()

    async with AsyncMLPlatform(url, "k") as platform:
        await platform.whoami()
        answer = await asyncio.to_thread(in_a_fork, lambda: asyncio.run(ask()))
        assert "forked from one that used gRPC with asyncio" in answer


def test_a_pickled_client_has_its_configuration_and_a_connection_of_its_own(url: str):
    """A client goes into another process as its configuration; closing the copy leaves the original alone."""
    with MLPlatform(url, "k", timeout=7.0, retries=1) as platform:
        copied = pickle.loads(pickle.dumps(platform))
        assert config_of(copied) == config_of(platform)
        assert copied.whoami() == platform.whoami()
        copied.close()
        with pytest.raises(ConfigurationError):
            copied.whoami()
        assert copy.deepcopy(platform).whoami() == platform.whoami()


async def test_a_pickled_asynchronous_client_works(url: str):
    """The asynchronous client is pickled alike."""
    async with AsyncMLPlatform(url, "k", retries=2) as platform:
        answer = await platform.whoami()
        async with pickle.loads(pickle.dumps(platform)) as copied:
            assert (await copied.whoami(), copied._invoker.config.retries) == (answer, 2)


def test_a_pickled_job_can_be_asked_again(url: str):
    """A job's handle goes along with the client that it belongs to; what was last seen of it too."""
    with MLPlatform(url, "k") as platform:
        job = platform.train_model(experiment_name="e")
        copied: TrainingJob = pickle.loads(pickle.dumps(job))
        assert copied.job_id == job.job_id
        assert copied.to_dict() == job.to_dict()
        assert copied.refresh().job_id == job.job_id


def config_of(platform: MLPlatform) -> ClientConfig:
    return platform._invoker.config
