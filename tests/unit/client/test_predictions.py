"""Many predictions: what is sent for rows, DataFrames and streams, and what comes back."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pandas as pd
import pytest
from google.protobuf.struct_pb2 import ListValue, Value

from ml_platform import AsyncMLPlatform, Cancelled, InvalidArgument, MLPlatform, NotFound, Unavailable, rpcs
from ml_platform.resources import batches
from ml_platform.v1 import errors_pb2, predictions_pb2
from ml_platform.v1.predictions_pb2 import (
    BatchPredictRequest,
    BatchPredictResponse,
    ColumnValues,
    DegradedRow,
    DoubleValues,
    Int64Values,
    OutputColumn,
    RowError,
    RowPrediction,
    RowResult,
    StreamPredictRequest,
    StreamPredictResponse,
    VectorValues,
)
from ml_platform.values import from_struct, to_struct
from ml_platform_server.errors import PlatformError, Violation, to_status
from tests.support.fake_platform import Bare, FakePlatform

STAGING = "staging"
BAD = PlatformError(
    errors_pb2.ERROR_REASON_INPUT_INVALID,
    "It is bad.",
    remedy="Mend it.",
    violations=[Violation("inputs.x", "expected a number")],
)


def doubled(request: BatchPredictRequest) -> BatchPredictResponse:
    """Twice the x of each row; an error for one that is negative."""
    response = BatchPredictResponse(prediction_id="p", model_name="m", model_version=2, deployment_id="d")
    for row in request.rows:
        x = row.fields["x"].number_value
        if x < 0:
            response.results.add(error=to_status(BAD, "r"))
            continue
        said = RowPrediction(prediction=Value(number_value=2 * x), probability=0.5, outputs=to_struct({"y": 2 * x}, ""))
        said.degraded_features.extend(["v:f"] if x == 1 else [])
        response.results.append(RowResult(prediction=said))
    return response


def test_many_rows_go_in_few_calls(platform: MLPlatform, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are cut into calls and the predictions come back in their order, each saying who made it."""
    monkeypatch.setattr(batches, "ROWS", 4)
    fake.answer(rpcs.BATCH_PREDICT, doubled)
    found: Any = platform.predict_many("m", ({"x": at, "user": "u"} for at in range(10)), "staging", include_features=True)
    assert [each.prediction for each in found] == [2 * at for at in range(10)]
    assert (found[5].prediction_id, found[5].outputs, found[5].probability) == ("p-1", {"y": 10}, 0.5)
    assert [each.degraded_features for each in found[:2]] == [(), ("v:f",)]
    requests = [call.request for call in fake.seen]
    assert [len(request.rows) for request in requests] == [4, 4, 2]
    assert {(request.model_name, request.environment, request.include_features) for request in requests} == {("m", STAGING, True)}
    assert from_struct(requests[0].rows[0]) == {"x": 0, "user": "u"}


def test_large_rows_are_cut_by_their_size(platform: MLPlatform, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is never larger than the platform takes."""
    monkeypatch.setattr(batches, "REQUEST_BYTES", 1000)
    fake.answer(rpcs.BATCH_PREDICT, doubled)
    platform.predict_many("m", [{"x": 1, "text": "t" * 400}] * 5)
    assert [len(call.request.rows) for call in fake.seen] == [2, 2, 1]


def test_a_row_that_fails_raises_or_is_returned(
    platform: MLPlatform, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first error is raised with its row's number, or stands in its row's place, with all its details."""
    monkeypatch.setattr(batches, "ROWS", 2)
    fake.answer(rpcs.BATCH_PREDICT, doubled)
    rows = [{"x": 1}, {"x": 1}, {"x": 1}, {"x": -1}]
    with pytest.raises(InvalidArgument, match="Row 3: It is bad") as caught:
        platform.predict_many("m", rows)
    assert caught.value.violations[0].field == "inputs.x"
    found: Any = platform.predict_many("m", rows, on_error="return")
    assert [type(each).__name__ for each in found] == ["Prediction", "Prediction", "Prediction", "InvalidArgument"]
    assert (found[3].reason, found[3].remedy, found[3].correlation_id) == ("INPUT_INVALID", "Mend it.", "r")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"rows": {"x": 1}}, "rows"),
        ({"rows": "text"}, "rows"),
        ({"rows": [1]}, r"rows\[0\]"),
        ({"rows": [{"x": object()}]}, r"rows\[0\]"),
        ({"rows": [{}], "on_error": "ignore"}, "on_error"),
        ({"rows": [{}], "environment": 7}, "environment"),
        ({"rows": pd.DataFrame({"x": [1]}), "include_features": True}, "include_features"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_call(
    platform: MLPlatform, fake: FakePlatform, arguments: dict[str, Any], field: str
) -> None:
    """Rows that are none, values that cannot be sent, and words that are not known never leave the client."""
    with pytest.raises(InvalidArgument, match=field):
        platform.predict_many("m", **arguments)
    assert fake.seen == []


def test_no_rows_need_no_call(platform: MLPlatform, fake: FakePlatform) -> None:
    """Nothing asked is nothing answered."""
    assert platform.predict_many("m", []) == platform.predict_many("m", pd.DataFrame({"x": []})) == []
    assert fake.seen == []


def test_a_frame_goes_as_columns(platform: MLPlatform, fake: FakePlatform) -> None:
    """Each column of a DataFrame goes as values of its own kind, with its missing values as nulls."""
    frame = pd.DataFrame(
        {
            "number": [1.5, math.nan],
            "count": [1, 2],
            "maybe": pd.array([1, None], "Int64"),
            "flag": [True, False],
            "word": ["a", None],
            "mixed": ["a", 1],
            "objects": pd.Series([2.5, None], dtype=object),
            "time": pd.to_datetime(["2024-01-01T00:00:00Z", None]),
            "vector": [[1.0, 2.0], [3.0]],
            "none": [None, None],
        }
    )
    fake.answer(rpcs.BATCH_PREDICT, lambda _: columns_reply())
    platform.predict_many("m", frame)
    sent = {column.name: column.values for column in fake.seen[0].request.columns}
    kinds = {name: values.WhichOneof("kind") for name, values in sent.items()}
    assert kinds == {
        "number": "doubles",
        "count": "integers",
        "maybe": "integers",
        "flag": "booleans",
        "word": "strings",
        "mixed": "any",
        "objects": "doubles",
        "time": "any",
        "vector": "any",
        "none": "any",
    }
    assert {name: list(values.nulls) for name, values in sent.items() if values.nulls} == {
        "maybe": [1],
        "word": [1],
        "objects": [1],
        "time": [1],
        "none": [0, 1],
    }
    assert sent["time"].any.values[0].string_value == "2024-01-01T00:00:00+00:00"
    assert math.isnan(sent["number"].doubles.values[1])


def columns_reply() -> BatchPredictResponse:
    """Two rows in columns."""
    return BatchPredictResponse(
        prediction_id="p",
        model_name="m",
        model_version=2,
        deployment_id="d",
        outputs=[
            OutputColumn(name="label", values=ColumnValues(integers=Int64Values(values=[1, 0]))),
            OutputColumn(name="scores", values=ColumnValues(vectors=VectorValues(values=[0.1, 0.9, 1.0, math.nan], length=2))),
            OutputColumn(name="counts", values=ColumnValues(vectors=VectorValues(integers=[1, 2**60, -3, 0], length=2))),
            OutputColumn(name="extra", values=ColumnValues(any=ListValue(values=[Value(string_value="a"), Value()]), nulls=[1])),
        ],
        probabilities=[0.9, math.nan],
        degraded_rows=[DegradedRow(row=1, degraded_features=["v:f"])],
    )


def test_columns_come_back_as_predictions(platform: MLPlatform, fake: FakePlatform) -> None:
    """The columns of a reply are the same predictions that rows would be."""
    fake.answer(rpcs.BATCH_PREDICT, columns_reply())
    one, other = list[Any](platform.predict_many("m", pd.DataFrame({"x": [1, 2]})))
    assert (one.prediction, one.probability, one.outputs) == (
        1,
        0.9,
        {"label": 1, "scores": [0.1, 0.9], "counts": [1, 2**60], "extra": "a"},
    )
    assert (other.probability, other.outputs) == (None, {"label": 0, "scores": [1, None], "counts": [-3, 0], "extra": None})
    assert (other.prediction_id, other.model_version, other.degraded_features) == ("p-1", 2, ("v:f",))


def test_errors_among_columns_are_those_of_their_rows(
    platform: MLPlatform, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows with errors stand in their places, also where all rows of a call have one, and large frames are cut."""
    monkeypatch.setattr(batches, "FRAME_ROWS", 2)
    outputs = [OutputColumn(name="y", values=ColumnValues(doubles=DoubleValues(values=[0, 2.5]), nulls=[0]))]
    error = to_status(BAD, "r")
    some = BatchPredictResponse(prediction_id="p", outputs=outputs, errors=[RowError(row=0, error=error)])
    every = BatchPredictResponse(prediction_id="q", errors=[RowError(row=at, error=error) for at in (0, 1)])
    fake.answer(rpcs.BATCH_PREDICT, some, every)
    found: Any = platform.predict_many("m", pd.DataFrame({"x": [1.0] * 4}), on_error="return")
    assert [getattr(each, "prediction", None) for each in found] == [None, 2.5, None, None]
    assert [getattr(each, "reason", "") for each in found] == ["INPUT_INVALID", "", "INPUT_INVALID", "INPUT_INVALID"]


def streamed(request: StreamPredictRequest) -> StreamPredictResponse:
    """Twice the x of a request, or an error."""
    x = request.inputs.fields["x"].number_value
    if x < 0:
        return StreamPredictResponse(id=request.id, error=to_status(BAD, "r"))
    return StreamPredictResponse(id=request.id, prediction=predictions_pb2.PredictResponse(prediction=Value(number_value=2 * x)))


def test_a_stream_answers_one_after_the_other(platform: MLPlatform, fake: FakePlatform) -> None:
    """Each answer tells which request it belongs to; one that fails is an answer too."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)
    answers = list(platform.predict_stream("m", ({"x": x} for x in (1, -1, 3)), environment="staging"))
    assert [each.index for each in answers] == [0, 1, 2]
    assert [each.prediction.prediction if each.prediction else None for each in answers] == [2, None, 6]
    assert [each.error.reason if each.error else None for each in answers] == [None, "INPUT_INVALID", None]
    assert {(call.request.model_name, call.request.environment) for call in fake.seen} == {("m", STAGING)}
    assert fake.seen[0].time_remaining > 1e9


def test_inputs_that_cannot_be_sent_end_a_stream(platform: MLPlatform, fake: FakePlatform) -> None:
    """What was sent before is answered, then the fault is raised as it is."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)
    stream = iter(platform.predict_stream("m", [{"x": 1}, {"x": object()}]))
    assert next(stream).index == 0
    with pytest.raises(InvalidArgument, match=r"inputs\[1\]"):
        next(stream)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (PlatformError(errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, "No.", remedy="None."), NotFound),
        (Bare(grpc.StatusCode.UNAVAILABLE), Unavailable),
    ],
)
def test_a_stream_that_breaks_raises(platform: MLPlatform, fake: FakePlatform, fault: Any, expected: type[Exception]) -> None:
    """The end of a stream with an error is raised as the client's."""
    fake.answer(rpcs.STREAM_PREDICT, fault)
    with pytest.raises(expected):
        list(platform.predict_stream("m", [{"x": 1}]))


def test_a_stream_that_is_left_is_cancelled(fake: FakePlatform) -> None:
    """Leaving an endless stream cancels it on the platform, and stops taking inputs."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)
    with MLPlatform(fake.url, "mlp_test_key") as platform:
        stream: Any = platform.predict_stream("m", ({"x": x} for x in itertools.count()))
        assert next(stream).index == 0
        stream.close()
        assert fake.seen[0].gone.wait(5)


def test_an_asynchronous_source_feeds_a_stream(fake: FakePlatform) -> None:
    """The asynchronous client takes inputs from asynchronous iterators too."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)

    async def inputs() -> AsyncIterator[dict[str, int]]:
        for x in range(3):
            await asyncio.sleep(0)
            yield {"x": x}

    async def ask() -> list[int]:
        async with AsyncMLPlatform(fake.url, "mlp_test_key") as platform:
            return [answer.index async for answer in platform.predict_stream("m", inputs())]

    assert asyncio.run(ask()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        (None, "not NoneType"),
        (5, "not int"),
        ({"x": 1}, "a single row goes to predict"),
        ("x", "not str"),
        (pd.DataFrame(index=range(3)), "the DataFrame has no columns"),
    ],
    ids=str,
)
def test_a_stream_takes_many_rows(platform: MLPlatform, fake: FakePlatform, inputs: Any, told: str) -> None:
    """What is none of many rows is refused as predict_many does, and nothing is sent."""
    with pytest.raises(InvalidArgument, match=told):
        list(platform.predict_stream("m", inputs))
    assert fake.seen == []


def test_a_stream_takes_a_frame_row_by_row(platform: MLPlatform, fake: FakePlatform) -> None:
    """As any other rows."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)
    answers = list(platform.predict_stream("m", pd.DataFrame({"x": [1, 2]})))
    assert [each.prediction.prediction if each.prediction else None for each in answers] == [2, 4]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda p: p.predict_many("m", [{"x": 1}], include_features="yes"), "include_features"),
        (lambda p: list(p.predict_stream("m", [{"x": 1}], include_features="yes")), "include_features"),
        (lambda p: p.predict("m", {"x": 1}, params=[]), "params"),
        (lambda p: p.predict_many("m", [{"x": 1}], params=0), "params"),
        (lambda p: p.predict_many("m", pd.DataFrame({"s": ["\ud800"]})), "rows"),
        (lambda p: p.deploy_model("m", "9" * 5000, "staging"), "version"),
    ],
)
def test_an_argument_of_the_wrong_type_is_named(platform: MLPlatform, fake: FakePlatform, call: Any, field: str) -> None:
    """Whatever the method, and before anything is sent."""
    with pytest.raises(InvalidArgument) as caught:
        call(platform)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert fake.seen == []


def test_a_flag_of_numpy_is_one(platform: MLPlatform, fake: FakePlatform) -> None:
    """What a comparison of arrays gives, in calls that build their requests in parts too."""
    flag: Any = np.True_
    fake.answer(rpcs.BATCH_PREDICT, BatchPredictResponse())
    platform.predict_many("m", [{"x": 1}], include_features=flag)
    assert fake.seen[0].request.include_features


def test_a_client_that_is_closed_under_a_stream_ends_it_with_an_error(fake: FakePlatform) -> None:
    """What was not answered must not look like the end: another task closes the client, and the reader hears of it."""
    fake.answer(rpcs.STREAM_PREDICT, streamed)
    answered: list[int] = []

    async def inputs() -> AsyncIterator[dict[str, int]]:
        yield {"x": 1}
        await asyncio.sleep(60)

    async def ask() -> None:
        platform = AsyncMLPlatform(fake.url, "mlp_test_key")
        async for answer in platform.predict_stream("m", inputs()):
            answered.append(answer.index)
            asyncio.get_running_loop().create_task(platform.close())

    with pytest.raises(Cancelled, match="The call was cancelled"):
        asyncio.run(asyncio.wait_for(ask(), 20))
    assert answered == [0]
