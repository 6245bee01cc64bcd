"""Locks across processes."""

from __future__ import annotations

import asyncio
import time

import pytest

from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.locks import Locks
from ml_platform_server.store.owners import this_process
from tests.support.frame import opened_store


@pytest.fixture
async def two(store_url):
    """The locks of two servers on one database."""
    async with opened_store(store_url) as first, opened_store(store_url) as second:
        yield Locks(calls=IdempotencyStore(database=first)), Locks(calls=IdempotencyStore(database=second))


async def test_only_one_holds_a_lock_at_a_time(two):
    """Whichever server holds it; other names are not held up."""
    inside, most = 0, 0

    async def work(locks):
        nonlocal inside, most
        async with locks.hold("registry"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.01)
            inside -= 1

    async with two[0].hold("other"):
        await asyncio.gather(*(work(two[number % 2]) for number in range(8)))
    assert (most, inside) == (1, 0)


async def test_a_block_that_fails_releases_the_lock(two):
    """The next one has it at once."""
    with pytest.raises(ZeroDivisionError):
        async with two[0].hold("registry"):
            raise ZeroDivisionError
    async with two[1].hold("registry"):
        pass


async def test_a_call_waits_no_longer_than_its_deadline(two):
    """The error says that another call is in the way."""
    async with two[0].hold("registry"):
        set_deadline(time.monotonic() + 0.2)
        with pytest.raises(PlatformError) as caught:
            async with two[1].hold("registry"):
                pass
    assert caught.value.reason_name == "DEADLINE_EXCEEDED"


async def test_the_lock_of_a_process_that_has_ended_is_taken_over(store_url):
    """Its block never came to its end."""
    async with opened_store(store_url) as database:
        machine = this_process().partition(":")[0]
        crashed = Locks(calls=IdempotencyStore(database=database, owner=f"{machine}:999999999:1"))
        await crashed._acquire("registry")
        async with Locks(calls=IdempotencyStore(database=database)).hold("registry"):
            pass
