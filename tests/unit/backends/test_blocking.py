"""Blocking calls: what they are called in traces, and that whoever waits for one can be cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any

import pytest

from ml_platform_server.backends.blocking import BlockingPool, operation_of
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.settings import FeastSettings, MlflowSettings
from tests.support.refusals import refused


class Vendor:
    """Has methods that ask, in the ways that backends do."""

    def list_versions(self) -> Callable[[], int]:
        """A lambda."""
        return lambda: 1

    def register(self) -> Callable[[], int]:
        """A function in a function, around another one."""

        @wraps(_start_run)
        def guarded() -> int:
            return _start_run()

        return guarded


def _start_run() -> int:
    return 1


def _find_view(_: object) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Vendor().list_versions(), "list versions"),
        (Vendor().register(), "start run"),
        (_start_run, "start run"),
        (partial(_start_run), "call"),
    ],
)
def test_an_operation_has_a_name_of_its_own(function: Callable[[], int], name: str) -> None:
    """Not that of what it is wrapped in, nor one that says nothing."""
    assert operation_of(function) == name


class Pool:
    """Remembers what would have been run."""

    def __init__(self) -> None:
        self.operations: list[str] = []

    async def run(self, function: Callable[..., Any], /, *_: object, **__: object) -> Any:
        self.operations.append(operation_of(function))
        raise NotImplementedError


async def _given_up(work: Awaitable[object]) -> None:
    with pytest.raises(NotImplementedError):
        await work


async def test_no_backend_hides_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each hands its pool something that has the name of the operation."""
    pool = Pool()
    mlflow = MlflowBackend(settings=MlflowSettings())
    feast = FeastBackend(settings=FeastSettings())
    for backend in (mlflow, feast):
        monkeypatch.setattr(backend, "_pool", pool)
    monkeypatch.setattr(feast, "_store", object())
    await _given_up(Models(backend=mlflow).get("m"))
    await _given_up(feast.call(_find_view))
    assert pool.operations == ["get model", "find view"]


async def test_a_cancellation_as_the_call_ends_is_not_lost() -> None:
    """Tasks that ask again and again are ended by it: a server that closes waits for them."""
    pool, begun, ends = BlockingPool("vendor", threads=1), asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def ask() -> None:
        loop.call_soon_threadsafe(begun.set)
        ends.wait()

    async def ask_forever() -> None:
        while True:
            await pool.run(ask)

    task = asyncio.create_task(ask_forever())
    await begun.wait()
    ends.set()
    time.sleep(0.2)  # noqa: ASYNC251  # The thread ends meanwhile, and the loop has not heard of it.
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=5)
    pool.close()
    task.cancel()
    assert done
    assert task.cancelled()


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    """The caller hears of the deadline; the thread goes on."""
    pool, ends = BlockingPool("vendor", threads=1, timeout=0.05), threading.Event()
    with refused("DEADLINE_EXCEEDED"):
        await pool.run(ends.wait)
    ends.set()
    pool.close()
