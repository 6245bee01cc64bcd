"""StreamPredict from outside: answers as they come, matched by the caller's id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from ml_platform.v1 import predictions_pb2
from tests.support.errors import rich_error
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, struct


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path, in_flight=4)) as running_house:
        running_house.deploy()
        yield running_house


class Gate:
    """Holds requests back by their amount until the test lets them go, and knows how many have come."""

    def __init__(self, house: House) -> None:
        self.gates: dict[float, asyncio.Event] = {}
        self.came: list[float] = []
        self.dropped: list[float] = []
        self.coming = asyncio.Event()
        self._engine = house.engine
        house.answers = self._answer

    async def _answer(self, request: predictions_pb2.PredictRequest, log_fields: Any) -> bytes:
        amount = request.inputs.fields["amount"].number_value
        self.came.append(amount)
        self.coming.set()
        try:
            await self.gates.setdefault(amount, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.dropped.append(amount)
            raise
        return await self._engine.predict_encoded(request, log_fields)

    def open(self, amount: float) -> None:
        """Let a request go."""
        self.gates.setdefault(amount, asyncio.Event()).set()

    async def until(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with asyncio.timeout(5):
            while len(self.came) < count:
                self.coming.clear()
                await self.coming.wait()


def request(name: str, amount: object, **more: Any) -> predictions_pb2.StreamPredictRequest:
    """One request of a stream."""
    inputs = struct({"amount": amount, "total": 0})
    return predictions_pb2.StreamPredictRequest(
        **{"id": name, "model_name": "m", "environment": PRODUCTION, "inputs": inputs, **more}
    )


def start(house: House, *, timeout: float | None = 10) -> Any:
    """A stream that the test writes to and reads from."""
    return house.stub.StreamPredict(metadata=house.frame.metadata, timeout=timeout)


def reason(status: status_pb2.Status) -> str:
    """The reason in an answer's error."""
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return str(info.reason)


async def ended(call: Any) -> tuple[str, str]:
    """The code and reason with which a stream ends."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return rich_error(caught.value).brief


async def test_every_request_gets_an_answer_with_its_id(house: House) -> None:
    """Many more requests than may be in flight are all answered, each under its id, and then the stream ends OK."""
    call = house.stub.StreamPredict((request(str(at), at) for at in range(100)), metadata=house.frame.metadata, timeout=10)
    answers = {answer.id: answer.prediction async for answer in call}
    assert {int(name): answer.prediction.number_value for name, answer in answers.items()} == {at: at for at in range(100)}
    assert (answers["7"].model_version, answers["7"].deployment_id, await call.code()) == (1, "dep-1", grpc.StatusCode.OK)


async def test_an_answer_does_not_wait_for_those_before_it(house: House) -> None:
    """Answers come in the order in which they are found, not in that of the requests."""
    gate = Gate(house)
    call = start(house)
    await call.write(request("slow", 1))
    await call.write(request("fast", 2))
    gate.open(2)
    first = (await call.read()).id
    gate.open(1)
    assert (first, (await call.read()).id) == ("fast", "slow")
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_request_that_fails_gets_its_error_and_the_stream_goes_on(house: House) -> None:
    """A bad input and an unknown model are errors of their requests."""
    call = start(house)
    told = {}
    for one in (request("a", "x"), request("b", 1, model_name="other"), request("c", 1)):
        await call.write(one)
        answer = await call.read()
        told[answer.id] = reason(answer.error) if answer.HasField("error") else "fine"
    await call.done_writing()
    assert told == {"a": "INPUT_INVALID", "b": "MODEL_NOT_FOUND", "c": "fine"}


async def test_a_failure_that_nobody_foresaw_is_an_error_of_its_request(house: House) -> None:
    """A fault in the server ends one request with INTERNAL, and the next is answered."""
    engine = house.engine

    async def answer(asked: predictions_pb2.PredictRequest, log_fields: Any) -> bytes:
        match asked.inputs.fields["amount"].number_value:
            case 1:
                raise RuntimeError("secret detail")
            case 2:
                raise asyncio.CancelledError
        return await engine.predict_encoded(asked, log_fields)

    house.answers = answer
    call = start(house)
    answers = []
    for at in (1, 2, 3):
        await call.write(request(str(at), at))
        answers.append(await call.read())
    assert [reason(each.error) if each.HasField("error") else "" for each in answers] == ["INTERNAL", "INTERNAL", ""]
    assert "secret" not in str(answers)
    call.cancel()


@pytest.mark.parametrize("bad", [request("", 1), request("a", 2), request("b", 1, model_name="")])
async def test_a_request_that_cannot_be_matched_or_breaks_a_rule_ends_the_stream(house: House, bad: Any) -> None:
    """No id, the id of a request that is not answered yet, and a field that breaks a rule end the stream with INVALID_FIELDS."""
    gate = Gate(house)
    call = start(house)
    await call.write(request("a", 1))
    await gate.until(1)
    await call.write(bad)
    assert await ended(call) == ("INVALID_ARGUMENT", "INVALID_FIELDS")
    assert gate.dropped == [1]


async def test_an_id_may_be_used_again_once_it_is_answered(house: House) -> None:
    """The same id on one request after the other is no mistake."""
    call = start(house)
    for at in range(20):
        await call.write(request("same", at))
        assert (await call.read()).prediction.prediction.number_value == at
    call.cancel()


async def test_no_more_requests_are_read_than_may_be_in_flight(house: House) -> None:
    """While as many requests as allowed are without an answer, further ones wait on the wire."""
    gate = Gate(house)
    call = start(house)
    for at in range(10):
        await call.write(request(str(at), at))
    await gate.until(4)
    await asyncio.sleep(0.1)
    before = list(gate.came)
    gate.open(2)
    assert (await call.read()).id == "2"
    await gate.until(5)
    assert (before, gate.came) == ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    call.cancel()


async def test_a_caller_that_leaves_takes_its_requests_along(house: House) -> None:
    """Cancelling the stream cancels what it had in flight."""
    gate = Gate(house)
    call = start(house)
    await call.write(request("a", 1))
    await call.write(request("b", 2))
    await gate.until(2)
    call.cancel()
    async with asyncio.timeout(5):
        while len(gate.dropped) < 2:  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.01)


async def test_a_request_on_a_stream_without_a_deadline_does_not_hang(tmp_path: Path) -> None:
    """Each request has the server's default deadline; its end is an error of the request."""
    async with running(House(tmp_path, deadline=0.1)) as house:
        house.deploy()
        Gate(house)
        call = start(house, timeout=None)
        await call.write(request("a", 1))
        assert reason((await call.read()).error) == "DEADLINE_EXCEEDED"
        call.cancel()


async def test_a_server_that_stops_answers_what_it_has_read_and_ends_the_stream(house: House) -> None:
    """At a shutdown the requests in flight are answered, then the stream ends with SHUTTING_DOWN, and no new one begins."""
    gate = Gate(house)
    call = start(house)
    await call.write(request("a", 1))
    await gate.until(1)
    house.streams.close()
    await asyncio.sleep(0.05)
    gate.open(1)
    assert (await call.read()).id == "a"
    assert await ended(call) == ("UNAVAILABLE", "SHUTTING_DOWN")
    assert await ended(start(house)) == ("UNAVAILABLE", "SHUTTING_DOWN")


async def test_a_slow_reader_is_not_read_from(house: House) -> None:
    """A caller that reads no answers is not read from beyond what may be in flight and what the wire's window holds."""
    count = 0
    engine = house.engine

    async def answer(asked: predictions_pb2.PredictRequest, log_fields: Any) -> bytes:
        nonlocal count
        count += 1
        response = predictions_pb2.PredictResponse.FromString(await engine.predict_encoded(asked, log_fields))
        response.outputs["filler"] = "x" * 500_000
        return response.SerializeToString()

    house.answers = answer
    call = start(house)

    async def write() -> None:
        for at in range(200):
            await call.write(request(str(at), at))

    writing = asyncio.create_task(write())
    await asyncio.sleep(1)
    seen = count
    assert seen < 60
    got = 0
    while got < 200:
        got += (await call.read()).id != ""
    await writing
    call.cancel()
