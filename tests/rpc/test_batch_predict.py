"""BatchPredict from outside: many rows a call, each with its own end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2

from ml_platform.v1 import features_pb2, predictions_pb2
from ml_platform_server import turns as serving_turns
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, to_status
from ml_platform_server.serving.rpc import batch_replies
from ml_platform_server.serving.rpc.batch_rows import CHUNK_ROWS, Batches
from ml_platform_server.serving.rpc.in_flight import MOST_ROWS
from tests.support.errors import rich_error
from tests.support.predictions import House, running
from tests.support.serving import PRODUCTION, column, save_onnx, struct, sum_graph


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with running(House(tmp_path)) as running_house:
        running_house.deploy()
        yield running_house


async def ask(house: House, *rows: Mapping[str, object], **options: Any) -> predictions_pb2.BatchPredictResponse:
    """The answer to a batch."""
    request = predictions_pb2.BatchPredictRequest(
        model_name="m", environment=PRODUCTION, rows=[struct(row) for row in rows], **options
    )
    response: predictions_pb2.BatchPredictResponse = await house.stub.BatchPredict(
        request, metadata=house.frame.metadata, timeout=20
    )
    return response


def reason(status: status_pb2.Status) -> str:
    """The reason in a row's error."""
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert info.metadata["correlation_id"]
    return str(info.reason)


async def test_each_row_gets_its_prediction_in_order(house: House) -> None:
    """Rows come back in their order, each with its outputs, and the reply says once who answered."""
    response = await ask(house, {"amount": 1, "user_id": "u1"}, {"amount": 2, "total": 3})
    assert json_format.MessageToDict(response, preserving_proto_field_name=True) == {
        "prediction_id": response.prediction_id,
        "model_name": "m",
        "model_version": "1",
        "deployment_id": "dep-1",
        "results": [
            {"prediction": {"prediction": 11.0, "outputs": {"total": 11.0}}},
            {"prediction": {"prediction": 5.0, "outputs": {"total": 5.0}}},
        ],
    }


async def test_a_bad_row_gets_its_own_error_and_its_neighbours_their_predictions(house: House) -> None:
    """A wrong type, a missing key and an unknown entity are errors of their rows alone, with the details that a call's have."""
    response = await ask(
        house, {"amount": "x", "total": 1}, {"amount": 1}, {"amount": 1, "user_id": "u9"}, {"amount": 1, "user_id": "u1"}
    )
    told = [reason(result.error) if result.HasField("error") else None for result in response.results]
    assert told == ["INPUT_INVALID", "INPUT_MISSING", "FEATURE_MISSING", None]
    assert response.results[0].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert response.results[3].prediction.prediction.number_value == 11


async def test_a_batch_reads_the_features_of_many_rows_at_once(house: House) -> None:
    """A hundred rows that lack a feature cost one read."""
    house.features.reads.clear()
    response = await ask(house, *({"amount": at, "user_id": "u1"} for at in range(100)))
    assert [result.prediction.prediction.number_value for result in response.results] == [10.0 + at for at in range(100)]
    assert len(house.features.reads) == 1


async def test_a_large_batch_leaves_the_loop_to_others(house: House) -> None:
    """While ten thousand rows are answered, the other calls of the process get their turns."""
    turns = 0
    working = True

    async def look() -> None:
        nonlocal turns
        while working:
            turns += 1
            await asyncio.sleep(0)

    request = predictions_pb2.BatchPredictRequest(
        model_name="m", environment=PRODUCTION, rows=[struct({"amount": 1, "total": 2})] * 10_000
    )
    call = Call(method="", correlation_id="r", context=cast("Any", None), deadline=math.inf)
    looking = asyncio.create_task(look())
    answer = await Batches(find=house.engine.served).predict(request, call)
    working = False
    await looking
    assert isinstance(answer, bytes)
    assert len(predictions_pb2.BatchPredictResponse.FromString(answer).results) == 10_000
    assert turns >= 10_000 / CHUNK_ROWS


async def test_features_are_told_on_request(house: House) -> None:
    """With include_features each row tells the features it used and their status."""
    response = await ask(house, {"amount": 1, "user_id": "u1"}, include_features=True)
    (feature,) = response.results[0].prediction.features
    assert (feature.feature_view, feature.name, feature.status) == ("users", "total", features_pb2.FEATURE_STATUS_PRESENT)


@pytest.mark.parametrize("form", ["none", "both", "many"])
async def test_a_batch_in_no_form_or_in_two_or_too_large_is_refused(house: House, form: str) -> None:
    """A batch has either rows or columns, and at most ten thousand rows."""
    column = predictions_pb2.InputColumn(
        name="amount", values=predictions_pb2.ColumnValues(doubles=predictions_pb2.DoubleValues(values=[1]))
    )
    rows = {"none": 0, "both": 1, "many": 10_001}[form]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(house, *([{}] * rows), columns=[column] if form == "both" else [])
    assert (*rich_error(caught.value).brief, rich_error(caught.value).fields) == (
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
        ("rows",),
    )


async def test_a_model_that_is_not_there_fails_the_call(house: House) -> None:
    """What concerns no single row is an error of the call."""
    request = predictions_pb2.BatchPredictRequest(model_name="other", environment=PRODUCTION, rows=[struct({})])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=5)
    assert rich_error(caught.value).brief == ("NOT_FOUND", "MODEL_NOT_FOUND")


async def test_a_feature_store_that_is_down_fails_the_rows_that_need_it(house: House) -> None:
    """Rows that bring all their columns are answered though the feature store is down."""
    await ask(house, {"amount": 1, "user_id": "u1"})
    house.features.down = True
    response = await ask(house, {"amount": 1, "user_id": "u1"}, {"amount": 1, "total": 1}, {"amount": 2, "user_id": "u1"})
    told = [reason(result.error) if result.HasField("error") else None for result in response.results]
    assert told == ["BACKEND_UNAVAILABLE", None, "BACKEND_UNAVAILABLE"]


async def test_rows_that_fail_give_others_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many columns each row's error names, other calls have a turn in between; equal errors are packed once."""
    monkeypatch.setattr(serving_turns, "TURN_SECONDS", 0.0)
    packed: list[object] = []

    def packing(error: PlatformError, correlation_id: str) -> status_pb2.Status:
        packed.append(error)
        return to_status(error, correlation_id)

    monkeypatch.setattr(batch_replies, "to_status", packing)
    async with running(House(tmp_path)) as house:
        names = [f"c{number}" for number in range(300)]
        house.registry.add("wide", 1, [column(name) for name in names], save_onnx(tmp_path / "wide", sum_graph(300)))
        house.deployments.activate("wide", 1)
        request = predictions_pb2.BatchPredictRequest(model_name="wide", environment=PRODUCTION, rows=[struct({})] * CHUNK_ROWS)
        turns, call = 0, house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=60)
        while not call.done():
            turns += 1
            await asyncio.sleep(0)
        response = await call
    assert turns > 2 * CHUNK_ROWS
    assert (len(packed), len({result.error.SerializeToString() for result in response.results})) == (1, 1)
    assert response.results[0].error.message.count("c2") == 11
    assert "and 250 more columns" in response.results[0].error.message


async def test_too_many_rows_as_columns_are_refused(house: House) -> None:
    """A request has at most 100,000 rows, whatever its columns hold; so many are taken."""
    for count, expected in ((MOST_ROWS, None), (MOST_ROWS + 1, "INVALID_FIELDS")):
        values = predictions_pb2.ColumnValues(booleans=predictions_pb2.BoolValues(values=[True] * count))
        vectors = predictions_pb2.ColumnValues(vectors=predictions_pb2.VectorValues(values=[1.0] * (3 * count), length=3))
        integers = predictions_pb2.ColumnValues(vectors=predictions_pb2.VectorValues(integers=[1] * (3 * count), length=3))
        for given in (values, vectors, integers):
            columns = [predictions_pb2.InputColumn(name="nothing", values=given)]
            request = predictions_pb2.BatchPredictRequest(model_name="m", environment=PRODUCTION, columns=columns)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await house.stub.BatchPredict(request, metadata=house.frame.metadata, timeout=60)
            assert (rich_error(caught.value).brief[1] == "INVALID_FIELDS") == (expected is not None)
