"""How BentoML's threads are shared among the models."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from model_runner.failures import Expired
from model_runner.lanes import Lanes


class Work:
    """Work that waits in its thread until it is let go, and counts what has begun."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[str] = []

    def of(self, name: str) -> str:
        self.begun.append(name)
        self.go_on.wait(60)
        return name

    async def until(self, begun: list[str]) -> None:
        """Wait until all of this has begun."""
        async with asyncio.timeout(30):
            while sorted(self.begun) != sorted(begun):  # noqa: ASYNC110  # threads have no event of this loop
                await asyncio.sleep(0.005)


@pytest.fixture
def work() -> Iterator[Work]:
    made = Work()
    yield made
    made.go_on.set()


async def test_a_model_takes_no_more_than_its_share(work: Work) -> None:
    """Another one finds a thread at once, however many wait for the first."""
    lanes = Lanes(threads=4, most=3)
    runs = [asyncio.create_task(lanes.run("a", lambda: work.of("a"), None)) for _ in range(10)]
    await work.until(["a"] * 3)
    runs.append(asyncio.create_task(lanes.run("b", lambda: work.of("b"), None)))
    await work.until(["a"] * 3 + ["b"])
    work.go_on.set()
    assert await asyncio.gather(*runs) == ["a"] * 10 + ["b"]


async def test_a_free_thread_goes_to_the_model_with_the_fewest_runs(work: Work) -> None:
    """Not to who has waited longest."""
    lanes = Lanes(threads=2, most=2)
    first = threading.Event()
    runs = [asyncio.create_task(lanes.run("a", lambda: first.wait(60), None))]
    runs += [asyncio.create_task(lanes.run("a", lambda: work.of("a"), None)) for _ in range(3)]
    await work.until(["a"])
    runs.append(asyncio.create_task(lanes.run("b", lambda: work.of("b"), None)))
    await asyncio.sleep(0)
    first.set()
    await work.until(["a", "b"])
    work.go_on.set()
    await asyncio.gather(*runs)


async def test_what_has_not_begun_by_its_deadline_is_never_done(work: Work) -> None:
    """Its caller is answered then, and what comes after it goes on."""
    lanes = Lanes(threads=1, most=1)
    running = asyncio.create_task(lanes.run("a", lambda: work.of("first"), None))
    await work.until(["first"])
    late = asyncio.create_task(lanes.run("a", lambda: work.of("late"), 0.02))
    patient = asyncio.create_task(lanes.run("a", lambda: work.of("patient"), 60))
    with pytest.raises(Expired):
        await asyncio.wait_for(late, 30)
    work.go_on.set()
    assert [await running, await patient] == ["first", "patient"]
    assert work.begun == ["first", "patient"]


async def test_a_caller_who_leaves_takes_the_work_along(work: Work) -> None:
    """If it has not begun."""
    lanes = Lanes(threads=1, most=1)
    running = asyncio.create_task(lanes.run("a", lambda: work.of("first"), None))
    await work.until(["first"])
    left = asyncio.create_task(lanes.run("a", lambda: work.of("left"), None))
    await asyncio.sleep(0)
    left.cancel()
    work.go_on.set()
    assert await running == "first"
    assert await lanes.run("a", lambda: work.of("next"), None) == "next"
    assert work.begun == ["first", "next"]


async def test_what_fails_fails_for_its_caller_alone() -> None:
    """And its thread is free again."""
    lanes = Lanes(threads=1, most=1)
    with pytest.raises(ZeroDivisionError):
        await lanes.run("a", lambda: 1 / 0, None)
    assert await lanes.run("a", lambda: "next", None) == "next"
