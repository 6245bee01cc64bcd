"""How many requests to BentoML are under way for one version."""

from __future__ import annotations

import asyncio
import time

import pytest

from ml_platform_server.backends.bentoml.places import Places
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError


class Bento:
    """Answers when it is let go on; counts what was sent."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.sent = 0

    async def answer(self) -> int:
        self.sent += 1
        await self.go_on.wait()
        return self.sent


async def test_a_version_has_so_many_requests_under_way_and_another_one_its_own() -> None:
    """The rest waits; another version does not."""
    bento, other, places = Bento(), Bento(), Places(most=2)
    runs = [asyncio.create_task(places.run(("m", 1), bento.answer)) for _ in range(5)]
    runs += [asyncio.create_task(places.run(("m", 2), other.answer)) for _ in range(2)]
    await asyncio.sleep(0.01)
    assert (bento.sent, other.sent) == (2, 2)
    bento.go_on.set()
    other.go_on.set()
    await asyncio.gather(*runs)
    assert (bento.sent, other.sent) == (5, 2)


@pytest.mark.parametrize("leaves", ["by itself", "at its deadline"])
async def test_a_request_keeps_its_place_when_its_caller_leaves(leaves: str) -> None:
    """Until it is answered: the next one is not sent before."""
    bento, places = Bento(), Places(most=1)
    if leaves == "at its deadline":
        set_deadline(time.monotonic() + 0.05)
        with pytest.raises(PlatformError) as caught:
            await places.run(("m", 1), bento.answer)
        assert caught.value.reason_name == "DEADLINE_EXCEEDED"
        set_deadline(None)
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(places.run(("m", 1), bento.answer), 0.05)
    following = asyncio.create_task(places.run(("m", 1), bento.answer))
    await asyncio.sleep(0.05)
    assert bento.sent == 1
    bento.go_on.set()
    assert await asyncio.wait_for(following, 30) == 2


async def test_what_waits_for_a_place_is_not_sent_after_its_deadline() -> None:
    """Nor is what comes too late from the start."""
    bento, places = Bento(), Places(most=1)
    running = asyncio.create_task(places.run(("m", 1), bento.answer))
    await asyncio.sleep(0.01)
    for seconds in (0.05, -1.0):
        set_deadline(time.monotonic() + seconds)
        with pytest.raises(PlatformError):
            await places.run(("m", 1), bento.answer)
    bento.go_on.set()
    await running
    assert bento.sent == 1


async def test_closing_ends_what_nobody_waits_for() -> None:
    """A request whose caller left does not outlive its client."""
    bento, places = Bento(), Places(most=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(places.run(("m", 1), bento.answer), 0.01)
    await places.close()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
