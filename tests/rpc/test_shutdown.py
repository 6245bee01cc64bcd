"""A server that stops while it is called as fast as it can answer."""

from __future__ import annotations

import asyncio
import collections
import itertools

import grpc

from tests.support.echo import ECHO, Echo, EchoClient, EchoService
from tests.support.errors import rich_error
from tests.support.frame import running_frame


async def test_callers_of_a_busy_server_that_stops_are_answered_or_told_to_call_again(tmp_path):
    """No call is lost without a word, not even one that was still waiting for its turn."""
    ends: collections.Counter[tuple[str, str]] = collections.Counter()
    busy = asyncio.Event()

    async def call_until_refused(client: EchoClient) -> None:
        for count in itertools.count():
            try:
                await client.call("Unary", Echo(text="a"))
            except grpc.aio.AioRpcError as error:
                rich = rich_error(error)
                ends[rich.brief] += 1
                assert rich.retry_after is not None
                return
            if count == 5:
                busy.set()

    async with running_frame(tmp_path, [(ECHO, EchoService())]) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        callers = [asyncio.create_task(call_until_refused(client)) for _ in range(64)]
        await busy.wait()
        await frame.server.stop(grace=5)
        await asyncio.gather(*callers)
    assert ends == {("UNAVAILABLE", "SHUTTING_DOWN"): 64}


async def test_callers_who_never_rest_lose_no_call_either(tmp_path):
    """Every call is answered, refused with SHUTTING_DOWN and RetryInfo, or not accepted at all once nobody listens any more."""
    ends: collections.Counter[str] = collections.Counter()
    busy, over = asyncio.Event(), asyncio.Event()

    async def call_on_and_on(client: EchoClient) -> None:
        for count in itertools.count():
            try:
                await client.call("Unary", Echo(text="a"))
            except grpc.aio.AioRpcError as error:
                ends[_end_of(error)] += 1
                if over.is_set():
                    return
            if count == 5:
                busy.set()

    async with running_frame(tmp_path, [(ECHO, EchoService())]) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        callers = [asyncio.create_task(call_on_and_on(client)) for _ in range(50)]
        await busy.wait()
        await frame.server.stop(grace=5)
        over.set()
        await asyncio.gather(*callers)
    assert ends["SHUTTING_DOWN"] > 0
    assert set(ends) <= {"SHUTTING_DOWN", "not connected"}


def _end_of(error: grpc.aio.AioRpcError) -> str:
    """How a call ended: the reason that the server gave, or that no connection was to be had, or gRPC's own words."""
    details = error.details() or ""
    if error.trailing_metadata() and any(key == "grpc-status-details-bin" for key, _ in error.trailing_metadata() or ()):
        return rich_error(error).brief[1]
    if error.code() == grpc.StatusCode.UNAVAILABLE and "failed to connect to all addresses" in details:
        return "not connected"
    return f"{error.code().name}: {details}"
