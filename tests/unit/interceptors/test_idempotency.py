"""A repeat of a mutating call, whatever became of the first one."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from typing import Any

import pytest

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform.v1.experiments_pb2 import CreateExperimentRequest, CreateExperimentResponse
from ml_platform_server.call import Call, Principal
from ml_platform_server.errors import PlatformError
from ml_platform_server.interceptors.idempotency import Idempotency
from ml_platform_server.method import Method
from ml_platform_server.store.idempotency import IdempotencyStore
from tests.support.frame import opened_store

METHOD = Method(
    full_name="/ml_platform.v1.ExperimentService/CreateExperiment",
    name="CreateExperiment",
    scope=auth_pb2.SCOPE_EXPERIMENTS_WRITE,
    request_class=CreateExperimentRequest,
    response_class=CreateExperimentResponse,
    client_streaming=False,
    server_streaming=False,
    mutating=True,
)


class Work:
    """A servicer's method that counts, waits while it is told to, and fails as often as it is told to."""

    def __init__(self):
        self.done = 0
        self.failures = 0
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, request, call):
        self.started.set()
        await self.go_on.wait()
        if self.failures:
            self.failures -= 1
            raise PlatformError(errors_pb2.ERROR_REASON_EXPERIMENT_EXISTS, "There is one.", remedy="Take another name.")
        self.done += 1
        response = CreateExperimentResponse()
        response.experiment.experiment_id = str(self.done)
        return response


@pytest.fixture
async def calls(store_url):
    async with opened_store(store_url) as database:
        yield IdempotencyStore(database=database)


@pytest.fixture
def work():
    return Work()


@pytest.fixture
async def handle(calls, work):
    idempotency = Idempotency(calls=calls)
    yield idempotency.wrap(METHOD, work)
    work.go_on.set()
    await idempotency.close()


def call(principal="ann", deadline=math.inf):
    no_context: Any = None
    return Call(
        method="", correlation_id="", context=no_context, deadline=deadline, principal=Principal(principal, "", frozenset())
    )


def request(name="e", request_id="r"):
    return CreateExperimentRequest(name=name, request_id=request_id)


async def reason(awaitable):
    """The reason for which a call fails."""
    with pytest.raises(PlatformError) as caught:
        await awaitable
    return caught.value.reason_name


async def test_a_repeat_gets_the_first_answer(handle, work):
    """The same call again does nothing, and its answer is the first one."""
    answers = [(await handle(request(), call())).experiment.experiment_id for _ in range(3)]
    assert (answers, work.done) == (["1", "1", "1"], 1)


async def test_a_call_without_a_request_id_is_done_each_time(handle, work):
    """Who brings no request_id gets no protection."""
    await handle(request(request_id=""), call())
    await handle(request(request_id=""), call())
    assert work.done == 2


async def test_other_principals_have_other_request_ids(handle, work):
    """The same request_id from somebody else is another call, and nobody sees another's answer."""
    await handle(request(), call("ann"))
    assert (await handle(request(), call("bob"))).experiment.experiment_id == "2"


async def test_a_request_id_is_not_reused_for_another_request(handle):
    """The same request_id with other contents is a mistake of the caller's."""
    await handle(request(), call())
    assert await reason(handle(request(name="other"), call())) == "REQUEST_ID_REUSED"


async def test_a_call_that_failed_may_be_tried_again(handle, work):
    """A failure is not kept: the repeat does the work."""
    work.failures = 1
    assert await reason(handle(request(), call())) == "EXPERIMENT_EXISTS"
    assert (await handle(request(), call())).experiment.experiment_id == "1"


async def test_a_repeat_waits_for_the_first_call(handle, work):
    """A repeat that comes while the first call runs gets that call's answer."""
    work.go_on.clear()
    first = asyncio.create_task(handle(request(), call()))
    await work.started.wait()
    second = asyncio.create_task(handle(request(), call()))
    asyncio.get_running_loop().call_later(0.1, work.go_on.set)
    answers = [answer.experiment.experiment_id for answer in await asyncio.gather(first, second)]
    assert (answers, work.done) == (["1", "1"], 1)


async def test_a_repeat_does_not_wait_beyond_its_deadline(handle, work):
    """When the first call takes longer than the repeat may, the repeat is told that it runs, and when to come back."""
    work.go_on.clear()
    first = asyncio.create_task(handle(request(), call()))
    await work.started.wait()
    with pytest.raises(PlatformError) as caught:
        await handle(request(), call(deadline=time.monotonic() + 0.3))
    assert (caught.value.reason_name, caught.value.retry_after) == ("REQUEST_IN_PROGRESS", 1.0)
    work.go_on.set()
    await first


async def test_the_work_goes_on_when_its_caller_leaves(handle, work):
    """A caller who left and comes back finds the work done, once."""
    work.go_on.clear()
    first = asyncio.create_task(handle(request(), call()))
    await work.started.wait()
    first.cancel()
    await asyncio.wait([first])
    work.go_on.set()
    answer = await handle(request(), call())
    assert (answer.experiment.experiment_id, work.done) == ("1", 1)


async def test_a_caller_who_leaves_while_the_work_is_claimed_blocks_nobody(calls, work):
    """A call that is cancelled during its first insert gives its claim back: a repeat does the work at once."""
    slow = SlowStore(calls._database)
    handle = Idempotency(calls=slow).wrap(METHOD, work)
    first = asyncio.ensure_future(handle(request(), call()))
    await slow.inserted.wait()
    first.cancel()
    await asyncio.wait([first])
    slow.go_on.set()
    assert (await handle(request(), call())).experiment.experiment_id == "1"
    assert (first.cancelled(), work.done) == (True, 1)


class SlowStore(IdempotencyStore):
    """A store whose inserts are made, but not reported before it may go on."""

    def __init__(self, database):
        super().__init__(database=database)
        self.inserted = asyncio.Event()
        self.go_on = asyncio.Event()

    async def acquire(self, key, fingerprint):
        begun = await super().acquire(key, fingerprint)
        self.inserted.set()
        await self.go_on.wait()
        return begun


async def test_work_that_takes_too_long_is_given_up(calls, work):
    """Work is cut off before others believe that its process died, and may then be tried again."""
    work.go_on.clear()
    handle = Idempotency(calls=calls, longest=0.05).wrap(METHOD, work)
    assert await reason(handle(request(), call())) == "DEADLINE_EXCEEDED"
    work.go_on.set()
    assert (await handle(request(), call())).experiment.experiment_id == "1"


@pytest.mark.parametrize("change", [{"mutating": False}, {"server_streaming": True}, {"client_streaming": True}])
async def test_other_methods_are_left_alone(calls, work, change):
    """Reads and streams pass without a wrapper."""
    assert work is Idempotency(calls=calls).wrap(replace(METHOD, **change), work)
