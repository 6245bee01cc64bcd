"""Who may do a call's work, and what is kept of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from ml_platform_server.errors import PlatformError
from ml_platform_server.store.idempotency import LEASE_TIMEOUT, RENEW_INTERVAL, CallKey, IdempotencyStore, InProgress, Lease
from ml_platform_server.store.owners import this_process
from ml_platform_server.store.tables import DoneCallRow
from tests.support.frame import opened_store

KEY = CallKey("ann", "/Service/Method", "r")


PRINT_OWNER = """
import time
from ml_platform_server.store.owners import this_process
print(this_process(), flush=True)
time.sleep(60)
"""


def running_process():
    """Another process of this machine, which prints its identity."""
    return subprocess.Popen([sys.executable, "-c", PRINT_OWNER], stdout=subprocess.PIPE, text=True)


async def lease_time(calls):
    """When the lease of the only call was renewed last."""
    async with calls._database.session() as session:
        return await session.scalar(select(DoneCallRow.lease_time))


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
async def calls(store_url, clock):
    async with opened_store(store_url) as database:
        yield IdempotencyStore(database=database, now=clock)


@pytest.fixture
async def other(calls, clock):
    """The same store, as a process of another machine sees it."""
    return IdempotencyStore(database=calls._database, now=clock, owner="another machine:1:1")


async def test_the_first_one_gets_the_ticket_and_the_next_one_waits(calls):
    """One call does the work; who comes meanwhile gets nothing yet."""
    first, second = await calls.acquire(KEY, b"f"), await calls.acquire(KEY, b"f")
    assert (isinstance(first, Lease), second) == (True, InProgress(1.0))


async def test_of_many_at_once_one_gets_the_ticket(calls):
    """Among calls at the same moment exactly one is to do the work."""
    begun = await asyncio.gather(*(calls.acquire(KEY, b"f") for _ in range(10)))
    assert sum(isinstance(one, Lease) for one in begun) == 1


async def test_the_answer_is_given_again(calls):
    """Once the work is done, whoever asks gets its answer."""
    await calls.complete(await calls.acquire(KEY, b"f"), b"answer")
    assert await calls.acquire(KEY, b"f") == b"answer"


async def test_an_empty_answer_is_an_answer(calls):
    """A response without any field set is kept like any other."""
    await calls.complete(await calls.acquire(KEY, b"f"), b"")
    assert await calls.acquire(KEY, b"f") == b""


async def test_another_request_under_the_same_id_is_refused(calls):
    """A request_id stands for one request, while the work goes on and when it is done."""
    await calls.acquire(KEY, b"f")
    with pytest.raises(PlatformError) as caught:
        await calls.acquire(KEY, b"g")
    assert caught.value.reason_name == "REQUEST_ID_REUSED"


async def test_an_abandoned_call_may_be_done_by_the_next(calls):
    """A failure leaves nothing behind."""
    await calls.release(await calls.acquire(KEY, b"f"))
    assert isinstance(await calls.acquire(KEY, b"other contents"), Lease)


async def test_a_call_that_was_lost_is_taken_over_once(calls, other, clock):
    """Without renewals the work goes to one of those who ask once the lease has ended, and the lost call can no longer answer."""
    lost = await other.acquire(KEY, b"f")
    clock.now += timedelta(seconds=LEASE_TIMEOUT - 1)
    assert await calls.acquire(KEY, b"f") == InProgress(1.0)
    clock.now += timedelta(seconds=1)
    taken, late = await calls.acquire(KEY, b"f"), await calls.acquire(KEY, b"f")
    assert (isinstance(taken, Lease), late) == (True, InProgress(1.0))
    await other.complete(lost, b"too late")
    await other.release(lost)
    await calls.complete(taken, b"answer")
    assert await calls.acquire(KEY, b"f") == b"answer"


async def test_who_asks_learns_when_the_lease_ends(calls, other, clock):
    """A lease that is not renewed any more tells its true rest; one that is renewed tells when to look again."""
    await other.acquire(KEY, b"f")
    clock.now += timedelta(seconds=2 * RENEW_INTERVAL)
    assert await calls.acquire(KEY, b"f") == InProgress(LEASE_TIMEOUT - 2 * RENEW_INTERVAL)
    await other.renew()
    assert await calls.acquire(KEY, b"f") == InProgress(1.0)


async def test_work_that_goes_on_keeps_its_lease(calls, other, clock):
    """However long the work takes, nobody takes it over while its process renews the lease; then its answer counts."""
    lease = await other.acquire(KEY, b"f")
    for _ in range(20):
        clock.now += timedelta(seconds=LEASE_TIMEOUT - 1)
        await other.renew()
        assert await calls.acquire(KEY, b"f") == InProgress(1.0)
    await other.complete(lease, b"answer")
    assert await calls.acquire(KEY, b"f") == b"answer"


async def test_of_many_who_take_over_one_gets_the_ticket(calls, other, clock):
    """A lost call is done again once, however many ask at the same moment."""
    await other.acquire(KEY, b"f")
    clock.now += timedelta(seconds=LEASE_TIMEOUT)
    begun = await asyncio.gather(*(calls.acquire(KEY, b"f") for _ in range(10)))
    assert sum(isinstance(one, Lease) for one in begun) == 1


async def test_a_call_of_a_process_that_has_ended_is_taken_over_at_once(calls):
    """On the same machine nobody waits for the lease of a process that was killed."""
    with running_process() as process:
        owner = process.stdout.readline().strip()
        killed = IdempotencyStore(database=calls._database, now=calls._now, owner=owner)
        await killed.acquire(KEY, b"f")
        assert await calls.acquire(KEY, b"f") == InProgress(1.0)
        process.kill()
    assert owner.split(":")[0] == this_process().split(":")[0]
    assert isinstance(await calls.acquire(KEY, b"f"), Lease)


async def test_leases_are_renewed_by_themselves(calls, other, clock, monkeypatch):
    """While it is open, the leases of the calls in progress are renewed without anybody's asking."""
    monkeypatch.setattr("ml_platform_server.store.idempotency.RENEW_INTERVAL", 0.01)
    await other.acquire(KEY, b"f")
    clock.now += timedelta(seconds=LEASE_TIMEOUT - 1)
    await other.open()
    async with asyncio.timeout(10):
        while (await lease_time(calls)) != clock.now:  # noqa: ASYNC110  # the table has no event to wait for
            await asyncio.sleep(0.01)
    await other.close()


async def test_old_answers_are_forgotten(calls, clock):
    """Answers are kept for a day."""
    await calls.complete(await calls.acquire(KEY, b"f"), b"answer")
    clock.now += timedelta(hours=24)
    assert await calls.prune() == 0
    clock.now += timedelta(seconds=1)
    assert await calls.prune() == 1
    assert isinstance(await calls.acquire(KEY, b"f"), Lease)


async def test_forgetting_goes_on_by_itself(calls, clock):
    """While it is open, old answers go without anybody's asking."""
    await calls.complete(await calls.acquire(KEY, b"f"), b"answer")
    clock.now += timedelta(hours=25)
    await calls.open()
    async with asyncio.timeout(5):
        while await calls.acquire(KEY, b"f") == b"answer":  # noqa: ASYNC110  # the table has no event to wait for
            await asyncio.sleep(0.01)
    await calls.close()
