"""Clients in other processes: forked ones and pickled ones."""

from __future__ import annotations

import asyncio
import copy
import multiprocessing
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest

from ml_platform import AsyncMLPlatform, ConfigurationError, MLPlatform, MLPlatformError, rpcs
from ml_platform.config import ClientConfig
from ml_platform.sync.jobs import TrainingJob
from ml_platform.v1 import jobs_pb2, platform_pb2, training_pb2
from tests.support.fake_platform import FakePlatform


@pytest.fixture(autouse=True)
def _answers(fake: FakePlatform) -> None:
    """What the platform answers in these tests."""
    job = jobs_pb2.Job(job_id="j-1", state=jobs_pb2.JOB_STATE_QUEUED)
    fake.answer(rpcs.WHO_AM_I, platform_pb2.WhoAmIResponse(principal="ann"))
    fake.answer(rpcs.SUBMIT_TRAINING_JOB, training_pb2.SubmitTrainingJobResponse(job=job))
    fake.answer(rpcs.GET_TRAINING_JOB, training_pb2.GetTrainingJobResponse(job=job))


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


def test_a_forked_process_has_a_connection_of_its_own(fake: FakePlatform):
    """However busy the threads of the parent are, its client works in every child, and goes on in the parent."""
    stop = threading.Event()
    with MLPlatform(fake.url, "k") as platform:
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


def in_a_fork_of_the_fork(platform: MLPlatform) -> str:
    """Use the client, and again in a process that is forked from this one."""
    platform.whoami()
    answer: str = in_a_fork(lambda: platform.whoami().principal)
    return answer


def test_a_client_that_is_closed_in_a_fork_goes_on_in_the_parent(fake: FakePlatform):
    """Closing the client in a child leaves the parent's connection alone, and the child's client closed."""
    with MLPlatform(fake.url, "k") as platform:
        platform.whoami()

        def close() -> str:
            platform.close()
            return repr(platform.whoami())

        assert "This client is closed." in in_a_fork(close)
        assert platform.whoami()


async def test_an_asynchronous_client_refuses_to_work_in_a_fork(fake: FakePlatform):
    """What asyncio has of gRPC does not survive a fork: the child gets an error that says what to do, and does not hang."""
    async with AsyncMLPlatform(fake.url, "k") as platform:
        await platform.whoami()
        answer = await asyncio.to_thread(in_a_fork, lambda: asyncio.run(platform.whoami()))
        assert "belongs to the parent process" in answer
        assert await platform.whoami()


def test_a_pickled_client_has_its_configuration_and_a_connection_of_its_own(fake: FakePlatform):
    """A client goes into another process as its configuration; closing the copy leaves the original alone."""
    with MLPlatform(fake.url, "k", timeout=7.0, retries=1) as platform:
        copied = pickle.loads(pickle.dumps(platform))
        assert config_of(copied) == config_of(platform)
        assert copied.whoami() == platform.whoami()
        copied.close()
        with pytest.raises(ConfigurationError):
            copied.whoami()
        assert copy.deepcopy(platform).whoami() == platform.whoami()


async def test_a_pickled_asynchronous_client_works(fake: FakePlatform):
    """The asynchronous client is pickled alike."""
    async with AsyncMLPlatform(fake.url, "k", retries=2) as platform:
        answer = await platform.whoami()
        async with pickle.loads(pickle.dumps(platform)) as copied:
            assert (await copied.whoami(), copied._caller.config.retries) == (answer, 2)


def test_a_pickled_job_can_be_asked_again(fake: FakePlatform):
    """A job's handle goes along with the client that it belongs to; what was last seen of it too."""
    with MLPlatform(fake.url, "k") as platform:
        job = platform.train_model(experiment_name="e")
        copied: TrainingJob = pickle.loads(pickle.dumps(job))
        assert copied.job_id == job.job_id
        assert copied.to_dict() == job.to_dict()
        assert copied.refresh().job_id == job.job_id


def config_of(platform: MLPlatform) -> ClientConfig:
    return platform._caller.config
