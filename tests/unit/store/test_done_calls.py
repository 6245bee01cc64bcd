"""Who may do a call's work, and what is kept of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ml_platform_server.errors import PlatformError
from ml_platform_server.store.done_calls import CallKey, DoneCalls, Ticket
from tests.support.frame import opened_database

KEY = CallKey("ann", "/Service/Method", "r")


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = datetime(2024, 1, 1, tzinfo=UTC)

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def calls(tmp_path, clock):
    async with opened_database(tmp_path) as database:
        yield DoneCalls(database=database, now=clock)


async def test_the_first_one_gets_the_ticket_and_the_next_one_waits(calls):
    """One call does the work; who comes meanwhile gets nothing yet."""
    first, second = await calls.begin(KEY, b"f"), await calls.begin(KEY, b"f")
    assert (isinstance(first, Ticket), second) == (True, None)


async def test_of_many_at_once_one_gets_the_ticket(calls):
    """Among calls at the same moment exactly one is to do the work."""
    begun = await asyncio.gather(*(calls.begin(KEY, b"f") for _ in range(10)))
    assert sum(isinstance(one, Ticket) for one in begun) == 1


async def test_the_answer_is_given_again(calls):
    """Once the work is done, whoever asks gets its answer."""
    await calls.finish(await calls.begin(KEY, b"f"), b"answer")
    assert await calls.begin(KEY, b"f") == b"answer"


async def test_an_empty_answer_is_an_answer(calls):
    """A response without any field set is kept like any other."""
    await calls.finish(await calls.begin(KEY, b"f"), b"")
    assert await calls.begin(KEY, b"f") == b""


async def test_another_request_under_the_same_id_is_refused(calls):
    """A request_id stands for one request, while the work goes on and when it is done."""
    await calls.begin(KEY, b"f")
    with pytest.raises(PlatformError) as caught:
        await calls.begin(KEY, b"g")
    assert caught.value.reason_name == "REQUEST_ID_REUSED"


async def test_an_abandoned_call_may_be_done_by_the_next(calls):
    """A failure leaves nothing behind."""
    await calls.abandon(await calls.begin(KEY, b"f"))
    assert isinstance(await calls.begin(KEY, b"other contents"), Ticket)


async def test_a_call_that_was_lost_is_taken_over_once(calls, clock):
    """After a minute without an answer the work goes to one of those who ask, and the lost call can no longer answer."""
    lost = await calls.begin(KEY, b"f")
    clock.now += timedelta(seconds=59)
    assert await calls.begin(KEY, b"f") is None
    clock.now += timedelta(seconds=1)
    taken, late = await calls.begin(KEY, b"f"), await calls.begin(KEY, b"f")
    assert (isinstance(taken, Ticket), late) == (True, None)
    await calls.finish(lost, b"too late")
    await calls.abandon(lost)
    await calls.finish(taken, b"answer")
    assert await calls.begin(KEY, b"f") == b"answer"


async def test_old_answers_are_forgotten(calls, clock):
    """Answers are kept for a day."""
    await calls.finish(await calls.begin(KEY, b"f"), b"answer")
    clock.now += timedelta(hours=24)
    assert await calls.prune() == 0
    clock.now += timedelta(seconds=1)
    assert await calls.prune() == 1
    assert isinstance(await calls.begin(KEY, b"f"), Ticket)


async def test_forgetting_goes_on_by_itself(calls, clock):
    """While it is open, old answers go without anybody's asking."""
    await calls.finish(await calls.begin(KEY, b"f"), b"answer")
    clock.now += timedelta(hours=25)
    await calls.open()
    async with asyncio.timeout(5):
        while await calls.begin(KEY, b"f") == b"answer":  # noqa: ASYNC110  # the table has no event to wait for
            await asyncio.sleep(0.01)
    await calls.close()
