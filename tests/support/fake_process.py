"""A fake platform in a process of its own, for tests of processes that fork: a gRPC server beside the client would fork along."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

from ml_platform import rpcs
from ml_platform.v1 import jobs_pb2, platform_pb2, training_pb2
from tests.support.fake_platform import FakePlatform, Hang


@contextmanager
def fake_process() -> Iterator[str]:
    """The address of a fake that knows who asks, starts jobs, and never says how it is."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        assert ours.poll(60), "the fake did not start"
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(told: Connection) -> None:
    job = jobs_pb2.Job(job_id="j-1", state=jobs_pb2.JOB_STATE_QUEUED)
    with FakePlatform() as fake:
        fake.answer(rpcs.WHO_AM_I, platform_pb2.WhoAmIResponse(principal="ann"))
        fake.answer(rpcs.SUBMIT_TRAINING_JOB, training_pb2.SubmitTrainingJobResponse(job=job))
        fake.answer(rpcs.GET_JOB, jobs_pb2.GetJobResponse(job=job))
        fake.answer(rpcs.GET_HEALTH, Hang())
        told.send(fake.url)
        told.poll(None)
