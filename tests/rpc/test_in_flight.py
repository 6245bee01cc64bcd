"""How much of batches, tensors and streams a server works on at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from ml_platform.v1 import predictions_pb2
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.rpc.in_flight import InFlight
from tests.support.errors import rich_error
from tests.support.inference import call_inference, raw_request
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, struct

ROWS = 10


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path, all_in_flight=InFlight(most_rows=ROWS))) as running_house:
        running_house.deploy()
        yield running_house


class Gate:
    """Holds reads of the feature store back until the test lets them go."""

    def __init__(self, house: House) -> None:
        self._read, self._columns = house.features.read, house.features.read_columns
        self._go_on = asyncio.Event()
        self.reads = 0
        house.features.read = self.read  # type: ignore[method-assign]
        house.features.read_columns = self.read_columns  # type: ignore[method-assign]

    async def read(self, plan: Any, rows: Sequence[Mapping[str, object]]) -> Any:
        self.reads += 1
        await self._go_on.wait()
        return await self._read(plan, rows)

    async def read_columns(self, plan: Any, entities: Mapping[str, Sequence[object]], count: int) -> Any:
        self.reads += 1
        await self._go_on.wait()
        return await self._columns(plan, entities, count)

    async def until(self, reads: int) -> None:
        """Wait until so many reads have come."""
        async with asyncio.timeout(30):
            while self.reads < reads:  # noqa: ASYNC110  # what is waited for has no event
                await asyncio.sleep(0.005)

    def open(self) -> None:
        """Let all go."""
        self._go_on.set()


async def by_rows(house: House, rows: int) -> Any:
    """BatchPredict by rows."""
    request = predictions_pb2.BatchPredictRequest(
        model_name="m", environment=PRODUCTION, rows=[struct({"amount": 1, "user_id": "u1"})] * rows
    )
    return await house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=30)


async def by_columns(house: House, rows: int) -> Any:
    """BatchPredict by columns."""
    request = predictions_pb2.BatchPredictRequest(model_name="m", environment=PRODUCTION)
    request.columns.add(name="amount").values.doubles.values.extend([1.0] * rows)
    request.columns.add(name="user_id").values.strings.values.extend(["u1"] * rows)
    return await house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=30)


async def by_tensors(house: House, rows: int) -> Any:
    """ModelInfer."""
    request = raw_request("m", [(name, "FP64", np.ones((rows, 1))) for name in ("amount", "total")])
    return await call_inference(house, "ModelInfer", request)


FORMS = pytest.mark.parametrize("form", [by_rows, by_columns, by_tensors])


@FORMS
async def test_what_is_too_much_at_once_is_refused_and_says_when_to_come_again(
    house: House, form: Callable[[House, int], Awaitable[Any]]
) -> None:
    """Before anything is read for it; what was being worked on is answered, and then there is room again."""
    gate = Gate(house)
    first = asyncio.create_task(by_rows(house, ROWS - 2))
    await gate.until(1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await form(house, 3)
    error = rich_error(caught.value)
    assert (error.code, error.reason, error.retry_after) == ("RESOURCE_EXHAUSTED", "OVERLOADED", 1.0)
    assert gate.reads == 1
    gate.open()
    await first
    await form(house, 3)


async def test_requests_on_streams_are_counted_together_with_batches(house: House) -> None:
    """A request for which there is no room gets its own error; the stream goes on."""
    gate = Gate(house)
    batch = asyncio.create_task(by_rows(house, ROWS))
    await gate.until(1)
    call = house.stub.StreamPredict(metadata=house.frame.metadata, timeout=30)
    asked = predictions_pb2.StreamPredictRequest(
        id="1", model_name="m", environment=PRODUCTION, inputs=struct({"amount": 1, "user_id": "u1"})
    )
    await call.write(asked)
    answer = await call.read()
    assert (answer.id, answer.error.code) == ("1", grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    gate.open()
    await batch
    await call.write(asked)
    assert (await call.read()).prediction.prediction.number_value == 11.0
    await call.done_writing()


@FORMS
async def test_one_request_larger_than_the_limit_is_answered_when_it_is_alone(
    house: House, form: Callable[[House, int], Awaitable[Any]]
) -> None:
    """The size of a request has a limit of its own."""
    await form(house, 5 * ROWS)


def test_bytes_count_as_rows_do() -> None:
    """Few rows may be large."""
    in_flight = InFlight(most_bytes=100)
    with in_flight.of(1, 90):
        with pytest.raises(PlatformError), in_flight.of(1, 20):
            pass
        with in_flight.of(1, 10):
            pass
    with in_flight.of(1, 1000):
        pass


def test_what_nobody_waits_for_is_not_begun() -> None:
    """Its deadline has passed on the way."""
    set_deadline(time.monotonic() - 1)
    with pytest.raises(PlatformError) as caught, InFlight().of(1, 1):
        pass
    set_deadline(None)
    assert caught.value.reason_name == "DEADLINE_EXCEEDED"
