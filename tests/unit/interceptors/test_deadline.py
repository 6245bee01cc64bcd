"""Whose deadline counts."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass
from typing import Any

import pytest

from ml_platform.v1 import jobs_pb2, predictions_pb2
from ml_platform_server.call import Call, current_deadline
from ml_platform_server.interceptors.deadline import Deadline
from ml_platform_server.method import methods_of
from tests.support.refusals import refused

METHODS = {
    method.name: method
    for service in (
        predictions_pb2.DESCRIPTOR.services_by_name["PredictionService"],
        jobs_pb2.DESCRIPTOR.services_by_name["JobService"],
    )
    for method in methods_of(service)
}
unary = pytest.mark.parametrize("name", ["Predict", "BatchPredict", "GetJob"])


@dataclass
class Context:
    """What gRPC knows of a call's deadline."""

    remaining: float | None

    def time_remaining(self):
        return self.remaining


def called(name, remaining):
    """A call of a method that has so many seconds left."""
    context: Any = Context(remaining)
    return Call(name, context)


async def given(name, remaining, default=30.0):
    """Seconds that a call of a method has, when its caller gave it so many."""

    async def continuation(request, call):
        assert call.deadline == current_deadline()
        return call.deadline - time.monotonic()

    call = called(name, remaining)
    return await Deadline(default=default).wrap(METHODS[name], continuation)(b"", call)


@unary
@pytest.mark.parametrize("seconds", [5.0, 120.0, 86_400.0])
async def test_the_callers_deadline_counts(name, seconds):
    """A caller's own deadline is kept, shorter or longer than the server's default."""
    assert await given(name, seconds) == pytest.approx(seconds, abs=2.5)


@unary
async def test_the_default_is_for_callers_who_give_none(name):
    """A unary call without a deadline has the server's."""
    assert await given(name, None) == pytest.approx(30.0, abs=2.5)


@unary
async def test_whoever_waits_before_the_engine_has_a_timer(name):
    """A prediction whose key is looked up in a store that hangs ends at its deadline."""

    async def continuation(request, call):
        await asyncio.sleep(60)

    started = time.monotonic()
    with refused("DEADLINE_EXCEEDED"):
        await Deadline(default=0.05, timed=True).wrap(METHODS[name], continuation)(b"", called(name, None))
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("name", ["StreamPredict", "WatchJob"])
async def test_streams_have_no_default(name):
    """A stream without a deadline goes on."""

    async def continuation(request, call):
        return call.deadline, current_deadline()

    handle = Deadline(default=30.0).wrap(METHODS[name], continuation)
    assert await handle(b"", called(name, None)) == (math.inf, math.inf)


@unary
async def test_an_expired_call_goes_no_further(name):
    """What comes when its time is up is not even parsed."""

    async def continuation(request, call):
        raise AssertionError

    with refused("DEADLINE_EXCEEDED"):
        await Deadline(default=30.0).wrap(METHODS[name], continuation)(b"", called(name, 0.0))
