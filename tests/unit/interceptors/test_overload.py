"""How many calls are let in at once, and when fewer are."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from ml_platform.v1 import jobs_pb2, predictions_pb2
from ml_platform_server.interceptors import overload
from ml_platform_server.interceptors.overload import Overload
from ml_platform_server.interceptors.shutdown import Shutdown
from ml_platform_server.method import methods_of
from ml_platform_server.settings import ServerSettings

METHODS = {
    method.name: method
    for service in (
        predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"],
        jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
    )
    for method in methods_of(service)
}
SETTINGS = ServerSettings(
    max_predictions_in_flight=3, max_predictions_when_busy=1, max_control_in_flight=2, max_queue_seconds=0.5
)


@dataclasses.dataclass
class Loop:
    """An event loop that has work, or runs out of it."""

    now: float = 0.0
    asked: list = dataclasses.field(default_factory=list)

    def monotonic(self):
        return self.now

    def idle(self):
        asked, self.asked = self.asked, []
        for callback in asked:
            callback()


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr("ml_platform_server.interceptors.overload.time", loop)
    monkeypatch.setattr(overload, "when_idle", lambda callback: loop.asked.append(callback))  # noqa: PLW0108  # its list changes
    return loop


@pytest.fixture
async def running():
    shutdown: Any = Shutdown()
    tasks = []

    def begin(name, count):
        for _ in range(count):
            task = asyncio.create_task(asyncio.sleep(1000))
            tasks.append(task)
            shutdown.running(METHODS[name]).add(task)

    shutdown.begin = begin
    yield shutdown
    for task in tasks:
        task.cancel()


async def test_predictions_and_other_calls_have_limits_of_their_own(running):
    """As many predictions as there may be keep out further predictions, and nothing else."""
    limits = Overload(running=running, settings=SETTINGS)
    running.begin("Predict", 3)
    full = {name: limits.full(method)() for name, method in METHODS.items()}
    assert [name for name, value in full.items() if value] == ["Predict", "BatchPredict"]


async def test_control_calls_do_not_keep_out_predictions(running):
    """The same the other way round; streams and watches are no part of it."""
    limits = Overload(running=running, settings=SETTINGS)
    running.begin("GetJob", 2)
    full = {name for name, method in METHODS.items() if limits.full(method)()}
    assert full == {"GetJob", "ListJobs"}


def _look_until(limits, loop, end):
    """Look ten times a second, as the timer does in a process that runs."""
    while loop.now < end - 0.01:
        loop.now += overload._LOOK_SECONDS
        limits._look()


async def test_fewer_predictions_are_let_in_while_calls_queue_up(running, loop):
    """When the event loop has not run out of work for long, calls wait behind it; then fewer are let in, until it has."""
    limits = Overload(running=running, settings=SETTINGS.model_copy(update={"max_predictions_in_flight": 8}))
    full = limits.full(METHODS["Predict"])
    running.begin("Predict", 1)
    limits.open()
    assert not full()
    _look_until(limits, loop, 0.6)
    assert full()
    loop.idle()
    limits._look()
    assert not full()
    limits.close()


async def test_some_predictions_are_let_in_however_busy_it_is(running, loop):
    """A process that never runs out of work answers as many at once as make full batches, and never more than at other times."""
    for most, when_busy, expected in ((2048, 256, 256), (100, 256, 100)):
        changes = {"max_predictions_in_flight": most, "max_predictions_when_busy": when_busy}
        limits = Overload(running=running, settings=SETTINGS.model_copy(update=changes))
        limits.open()
        _look_until(limits, loop, loop.now + 3.0)
        assert limits._most_predictions == expected
        limits.close()


async def test_a_process_that_stood_still_refuses_nobody_for_it(running, loop):
    """Nobody's calls kept the loop from its work while the process was stopped, as on a busy machine or by a profiler."""
    limits = Overload(running=running, settings=SETTINGS.model_copy(update={"max_predictions_in_flight": 8}))
    full = limits.full(METHODS["Predict"])
    running.begin("Predict", 7)
    limits.open()
    loop.now = 2.0
    limits._look()
    assert not full()
    _look_until(limits, loop, 2.2)
    assert not full()
    limits.close()


async def test_calls_that_queue_up_after_a_process_stood_still_are_counted(running, loop):
    """A pause excuses itself alone."""
    limits = Overload(running=running, settings=SETTINGS.model_copy(update={"max_predictions_in_flight": 64}))
    full = limits.full(METHODS["Predict"])
    running.begin("Predict", 60)
    limits.open()
    loop.now = 2.0
    limits._look()
    _look_until(limits, loop, 2.8)
    assert full()
    limits.close()
