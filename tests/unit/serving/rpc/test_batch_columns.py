"""Batches as columns: the same answers and errors as the same batches as rows, whatever is in them."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from google.protobuf import struct_pb2
from onnx import TensorProto

from ml_platform.v1 import deployments_pb2, features_pb2
from ml_platform.v1.deployments_pb2 import FeaturePolicy, MissingFeatures, StaleFeatures
from ml_platform.v1.models_pb2 import ColumnSpec, ModelSignature
from ml_platform.v1.predictions_pb2 import (
    BatchPredictRequest,
    BatchPredictResponse,
    BoolValues,
    ColumnValues,
    DoubleValues,
    InputColumn,
    Int64Values,
    StringValues,
    VectorValues,
)
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.columns import ColumnData, decode_columns
from ml_platform_server.serving.inputs.convert import convert
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.outputs.encode_columns import packed_doubles
from ml_platform_server.serving.rpc import batch_columns
from ml_platform_server.serving.rpc.batch_rows import Batches
from ml_platform_server.struct_values import plain, to_value
from tests.support.inference import classifier_graph, deploy, echo_graph
from tests.support.predictions import House, opened
from tests.support.serving import PRODUCTION, column, struct

FLOAT, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with opened(House(tmp_path)) as made:
        yield made


async def ask(house: House, **forms: Any) -> BatchPredictResponse:
    """The answer to a batch in one form or the other."""
    call = Call(method="", correlation_id="r", context=cast("Any", None), deadline=math.inf)
    request = BatchPredictRequest(model_name="m", environment=PRODUCTION, **forms)
    answer = await Batches(find=house.engine.served).predict(request, call)
    message = BatchPredictResponse.FromString(answer)
    if "columns" in forms:
        assert message.SerializeToString() == answer
    return message


def any_policy(chance: random.Random) -> FeaturePolicy:
    """Any policy for missing and stale features, with a default or without."""
    policy = FeaturePolicy(missing=chance.choice(MissingFeatures.values()), stale=chance.choice(StaleFeatures.values()))
    if chance.random() < 0.5:
        policy.defaults.update({"total": 5.5})
    return policy


Kind = tuple[str, Callable[[random.Random], object], Callable[[Sequence[Any]], ColumnValues]]


def any_values(things: Sequence[Any]) -> ColumnValues:
    """Values of any kind."""
    return ColumnValues(any=struct_pb2.ListValue(values=[value_of(thing) for thing in things]))


def value_of(thing: object) -> struct_pb2.Value:
    """A Value, in which NaN and infinity travel as well as in a column."""
    return struct_pb2.Value(number_value=thing) if isinstance(thing, float) else to_value(thing)


def doubles(things: Sequence[Any]) -> ColumnValues:
    """Numbers."""
    return ColumnValues(doubles=DoubleValues(values=[thing or 0 for thing in things]), nulls=absent(things))


def integers(things: Sequence[Any]) -> ColumnValues:
    """Whole numbers."""
    return ColumnValues(integers=Int64Values(values=[thing or 0 for thing in things]), nulls=absent(things))


def texts(things: Sequence[Any]) -> ColumnValues:
    """Texts."""
    return ColumnValues(strings=StringValues(values=[thing or "" for thing in things]), nulls=absent(things))


def booleans(things: Sequence[Any]) -> ColumnValues:
    """Truth values."""
    return ColumnValues(booleans=BoolValues(values=[thing or False for thing in things]), nulls=absent(things))


def absent(things: Sequence[Any]) -> list[int]:
    """Where the nulls are."""
    return [at for at, thing in enumerate(things) if thing is None]


BOTH = (True, False)


def of(*choices: object) -> Callable[[random.Random], object]:
    """A maker of values."""
    return lambda chance: chance.choice(choices)


MIXED = of(1.0, 0.5, *BOTH, "text", "12", None, [1.0], {"a": 1.0}, 1e300, 2.0**60, math.nan)
KINDS = [
    (of(1.0, 0.0, -2.5, 1e300, 2.0**60, 3e9, math.nan, math.inf), doubles),
    (of(1.0, 0.0, None), doubles),
    (of(0, 1, -7, 3_000_000_000), integers),
    (of(0, 1, None), integers),
    (of("u1", "u2", "new", "12", ""), texts),
    (of("u1", None), texts),
    (of(*BOTH), booleans),
    (of(*BOTH, None), booleans),
    (MIXED, any_values),
    (of("u1", "u2", "odd", "hole", "nobody", 12.0, *BOTH, 1.0, None), any_values),
]
# Names that are columns, names that features go by, join keys, and one that is nothing.
NAMES = {
    "number": 0.8,
    "single": 0.8,
    "count": 0.8,
    "flag": 0.7,
    "word": 0.7,
    "total": 0.2,
    "users__total": 0.2,
    "user_id": 0.9,
    "x": 0.3,
}


def same(one: object, other: object) -> bool:
    """Whether two plain values are the same, where a row's null may be a column's NaN or infinity."""
    if one is None and isinstance(other, float) and not math.isfinite(other):
        return True
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def by_row(values: ColumnValues) -> list[object]:
    """A column of a reply as plain values."""
    kind = str(values.WhichOneof("kind"))
    if kind == "vectors":
        flat, length = list(values.vectors.values or values.vectors.integers), values.vectors.length
        found: list[Any] = [flat[at : at + length] for at in range(0, len(flat), length)]
    else:
        found = [plain(each) if kind == "any" else each for each in getattr(values, kind).values]
    for at in values.nulls:
        found[at] = None
    return found


def compare(rows: BatchPredictResponse, columns: BatchPredictResponse) -> int:
    """Hold the two answers against each other; gives the number of predictions."""
    errors = {error.row: error.error for error in columns.errors}
    degraded = {row.row: list(row.degraded_features) for row in columns.degraded_rows}
    outputs = {output.name: by_row(output.values) for output in columns.outputs}
    predicted = 0
    for at, result in enumerate(rows.results):
        if result.HasField("error"):
            assert errors.pop(at) == result.error
            assert all(values[at] is None for values in outputs.values())
            continue
        predicted += 1
        prediction = result.prediction
        for name, value in prediction.outputs.fields.items():
            assert same(plain(value), outputs[name][at]), (name, at)
        assert degraded.get(at, []) == list(prediction.degraded_features)
        if prediction.HasField("probability"):
            assert columns.probabilities[at] == pytest.approx(prediction.probability)
        elif columns.probabilities:
            assert math.isnan(columns.probabilities[at])
    assert not errors
    return predicted


@pytest.mark.parametrize("seed", range(100))
async def test_columns_get_what_the_same_rows_get(house: House, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random batches, with wrong types, nulls, aliases, unknown entities and odd features, end the same in both forms."""
    chance = random.Random(seed)
    monkeypatch.setattr(batch_columns, "CHUNK_ROWS", chance.choice([7, 1000]))
    required = {name: chance.random() < 0.4 for name in ("number", "single", "total", "level")}
    types = {"number": FLOAT, "single": FLOAT, "count": INT64, "flag": BOOL, "word": STRING, "total": FLOAT, "level": FLOAT}
    columns = {"number": "double", "single": "float", "count": "long", "flag": "boolean", "word": "string", "total": "double"}
    inputs = [column(name, type_, required=required.get(name, True)) for name, type_ in columns.items()]
    inputs.append(column("level", "double", required=required["level"]))
    house.features.views["users"] = ("total", "level")
    house.features.stored.update(
        {
            ("users", ("u1",)): {"total": 10.0, "level": 1.0},
            ("users", ("u2",)): {"total": 20.0, "level": 2},
            ("users", ("odd",)): {"total": "text", "level": 3.0},
            ("users", ("hole",)): {"total": None, "level": 4.0},
            ("users", ("12",)): {"total": 12.0, "level": None},
        }
    )
    house.features.stale = chance.random() < 0.3
    deploy(house, echo_graph(types), inputs, ["users:total", "users:level"])
    if chance.random() < 0.5:
        house.deployments.activate("m", 1, policy=any_policy(chance))
    count = chance.randint(1, 40)
    good = {"count": (of(1, 2, 3), integers), "flag": (of(*BOTH), booleans), "word": (of("a", "b"), texts)}
    good |= {"user_id": (of("u1", "u2", "odd", "hole", "nobody", "12"), texts), "number": (of(0.5, 2.5), doubles)}
    sent = {}
    for name, likely in NAMES.items():
        if chance.random() < likely:
            make, pack = good[name] if name in good and chance.random() < 0.7 else chance.choice(KINDS)
            sent[name] = ([make(chance) for _ in range(count)], pack)
    if not sent:
        sent["number"] = ([1.0] * count, doubles)
    packed = [InputColumn(name=name, values=pack(things)) for name, (things, pack) in sent.items()]
    rows = []
    for at in range(count):
        row = struct_pb2.Struct()
        for name, (things, _) in sent.items():
            row.fields[name].CopyFrom(value_of(things[at]))
        rows.append(row)
    compare(await ask(house, rows=rows), await ask(house, columns=packed))


async def test_most_of_what_is_compared_is_predicted(house: House) -> None:
    """A clean batch gets predictions on both ways, from one read for all of its entities."""
    deploy(house, echo_graph({"number": FLOAT, "total": FLOAT}), [column("number"), column("total")], ["users:total"])
    house.features.stored["users", ("u2",)] = {"total": 20.0}
    keys = ["u1", "u2", "u1", "u1"] * 5
    numbers = [float(at) for at in range(20)]
    packed = [InputColumn(name="number", values=doubles(numbers)), InputColumn(name="user_id", values=texts(keys))]
    rows = [struct({"number": number, "user_id": key}) for number, key in zip(numbers, keys, strict=True)]
    told = await ask(house, rows=rows)
    house.features.reads.clear()
    assert compare(told, await ask(house, columns=packed)) == 20
    assert house.features.reads == [(["users:total"], [{"user_id": "u1"}, {"user_id": "u2"}])]


async def test_rows_that_go_on_without_a_feature_say_so(house: House) -> None:
    """A default in place of a missing feature is told for its row, in both forms."""
    deploy(house, echo_graph({"number": FLOAT, "total": FLOAT}), [column("number"), column("total")], ["users:total"])
    policy = FeaturePolicy(missing=deployments_pb2.MISSING_FEATURES_DEFAULT)
    policy.defaults.update({"total": 5.5})
    house.deployments.activate("m", 1, policy=policy)
    packed = [InputColumn(name="number", values=doubles([1.0, 2.0])), InputColumn(name="user_id", values=texts(["u1", "new"]))]
    rows = [struct({"number": 1.0, "user_id": "u1"}), struct({"number": 2.0, "user_id": "new"})]
    answer = await ask(house, columns=packed)
    assert compare(await ask(house, rows=rows), answer) == 2
    assert [(each.row, list(each.degraded_features)) for each in answer.degraded_rows] == [(1, ["users:total"])]
    assert list(answer.outputs[1].values.doubles.values) == [10.0, 5.5]


@pytest.mark.parametrize("key_type", [features_pb2.VALUE_TYPE_STRING, features_pb2.VALUE_TYPE_INT64])
async def test_a_key_never_becomes_its_neighbour(house: House, key_type: features_pb2.ValueType.ValueType) -> None:
    """From 2^53 on a double is no key; integers and texts are, to the last digit."""
    house.deploy()
    whole = key_type == features_pb2.VALUE_TYPE_INT64
    house.features.key_type = key_type
    keys = [2**53 - 1, 2**53, 2**53 + 1, -(2**63)]
    house.features.stored = {("users", (key if whole else str(key),)): {"total": float(at)} for at, key in enumerate(keys)}
    amounts = InputColumn(name="amount", values=doubles([0.5] * len(keys)))
    for values in (integers(keys), texts([str(key) for key in keys])):
        answer = await ask(house, columns=[amounts, InputColumn(name="user_id", values=values)])
        assert list(answer.outputs[0].values.doubles.values) == [0.5, 1.5, 2.5, 3.5]
    inexact = [float(key) for key in keys]
    by_columns = await ask(house, columns=[amounts, InputColumn(name="user_id", values=doubles(inexact))])
    by_rows = await ask(house, rows=[struct({"amount": 0.5, "user_id": key}) for key in inexact])
    for failed in ([each.error for each in by_columns.errors], [each.error for each in by_rows.results[1:]]):
        assert len(failed) == 3
        assert all("send it as text" in error.message for error in failed)


@pytest.mark.parametrize("down", [False, True])
async def test_a_feature_store_that_is_down_means_the_same_to_both(house: House, down: bool) -> None:
    """Rows that lack features fail with the store's error, before and after the features are known."""
    deploy(house, echo_graph({"number": FLOAT, "total": FLOAT}), [column("number"), column("total")], ["users:total"])
    house.features.down = down
    packed = [InputColumn(name="number", values=doubles([1.0, 2.0])), InputColumn(name="user_id", values=texts(["u1", "u1"]))]
    rows = [struct({"number": number, "user_id": "u1"}) for number in (1.0, 2.0)]
    before = compare(await ask(house, rows=rows), await ask(house, columns=packed))
    house.features.down = not down
    after = compare(await ask(house, rows=rows), await ask(house, columns=packed))
    assert (before, after) == ((0, 2) if down else (2, 0))


async def test_a_read_that_failed_is_not_repeated_row_by_row(house: House) -> None:
    """While the store is down, its error goes to the rows; a key that fits none is told all the same."""
    deploy(house, echo_graph({"number": FLOAT, "total": FLOAT}), [column("number"), column("total")], ["users:total"])
    numbers, keys = InputColumn(name="number", values=doubles([1.0, 2.0, 3.0])), ["u1", "u2", None]
    packed = [numbers, InputColumn(name="user_id", values=texts(keys))]
    await ask(house, columns=packed)
    house.features.down = True
    rows = [struct({"number": at + 1.0, "user_id": key}) for at, key in enumerate(keys)]
    by_rows = await ask(house, rows=rows)
    house.features.attempts = 0
    by_columns = await ask(house, columns=packed)
    assert house.features.attempts == 1
    assert compare(by_rows, by_columns) == 0
    assert len(by_columns.errors) == 3


async def test_a_classifier_gives_its_probabilities_as_vectors_and_as_one_number(house: House) -> None:
    """The label, the matrix of probabilities and the probability of the positive class come as columns of numbers."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    a, b = [0.5, -3.0, math.nan, 2.0], [0.1, -2.0, 1.0, 1.0]
    packed = [InputColumn(name="a", values=doubles(a)), InputColumn(name="b", values=doubles(b))]
    rows = []
    for pair in zip(a, b, strict=True):
        row = struct_pb2.Struct()
        row.fields["a"].number_value, row.fields["b"].number_value = pair
        rows.append(row)
    answer = await ask(house, columns=packed)
    assert compare(await ask(house, rows=rows), answer) == 4
    assert [output.values.WhichOneof("kind") for output in answer.outputs] == ["integers", "vectors"]
    assert answer.probabilities[0] == pytest.approx(0.57367, abs=1e-4)


async def test_a_tensor_takes_vectors(house: House) -> None:
    """A model of one tensor takes a column of vectors, and refuses those of another length row by row."""
    deploy(house, classifier_graph(), [column("x", "tensor(float32)", shape=[-1, 2])])
    vectors = [InputColumn(name="x", values=ColumnValues(vectors=VectorValues(values=[1, 2, 3, 4], length=2)))]
    rows = [struct({"x": [1, 2]}), struct({"x": [3, 4]})]
    assert compare(await ask(house, rows=rows), await ask(house, columns=vectors)) == 2
    vectors = [InputColumn(name="x", values=ColumnValues(vectors=VectorValues(values=[1, 2, 3, 4, 5, 6], length=3)))]
    rows = [struct({"x": [1, 2, 3]}), struct({"x": [4, 5, 6]})]
    assert compare(await ask(house, rows=rows), await ask(house, columns=vectors)) == 0


async def test_rows_that_the_model_fails_on_do_not_take_their_neighbours_along(house: House) -> None:
    """A value that only the graph refuses is an error of its row, and the others are predicted."""
    deploy(house, echo_graph({"count": TensorProto.UINT8}), [column("count", "long")])
    counts = [1, 2, -1, 3, 300, *range(50)]
    packed = [InputColumn(name="count", values=integers(counts))]
    rows = [struct({"count": count}) for count in counts]
    assert compare(await ask(house, rows=rows), await ask(house, columns=packed)) == 53


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ([InputColumn(name="a", values=doubles([1.0])), InputColumn(name="b", values=doubles([1.0, 2.0]))], "columns[1].values"),
        ([InputColumn(name="a", values=doubles([1.0])), InputColumn(name="a", values=doubles([1.0]))], "columns[1].name"),
        ([InputColumn(name="a", values=ColumnValues())], "columns[0].values"),
        ([InputColumn(name="a", values=doubles([]))], "columns[0].values"),
        ([InputColumn(name="a", values=ColumnValues(doubles=DoubleValues(values=[1]), nulls=[1]))], "columns[0].values.nulls"),
        (
            [InputColumn(name="a", values=ColumnValues(doubles=DoubleValues(values=[1, 2]), nulls=[1, 0]))],
            "columns[0].values.nulls",
        ),
        (
            [InputColumn(name="a", values=ColumnValues(vectors=VectorValues(values=[1, 2, 3], length=2)))],
            "columns[0].values.vectors",
        ),
        (
            [InputColumn(name="a", values=ColumnValues(vectors=VectorValues(integers=[1, 2, 3], length=2)))],
            "columns[0].values.vectors",
        ),
        (
            [InputColumn(name="a", values=ColumnValues(vectors=VectorValues(values=[1], integers=[1], length=1)))],
            "columns[0].values.vectors",
        ),
    ],
)
async def test_columns_that_do_not_go_together_are_refused(house: House, columns: Sequence[InputColumn], field: str) -> None:
    """Columns of different lengths, called alike, empty, or with nulls that are nowhere, fail the call and are named."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    with pytest.raises(PlatformError) as caught:
        await ask(house, columns=columns)
    assert (caught.value.reason_name, [each.field for each in caught.value.violations]) == ("INVALID_FIELDS", [field])


async def test_numbers_travel_as_they_are(house: House) -> None:
    """Doubles of every kind survive the way into NumPy and back, bit for bit."""
    for count in (1, 15, 16, 17, 127, 128, 3000, 300_000):
        numbers = np.random.default_rng(count).standard_normal(count)
        message = DoubleValues.FromString(packed_doubles(b"\x0a", numbers))
        assert list(message.values[:5]) == numbers[:5].tolist()
        assert len(message.values) == count
        taken, rows = await decode_columns([InputColumn(name="a", values=ColumnValues(doubles=message))])
        assert rows == count
        assert np.array_equal(taken["a"].values, numbers)


async def test_a_long_batch_lets_others_have_their_turns(house: House) -> None:
    """Between the slices of a large batch the loop is free."""
    deploy(house, classifier_graph(), [column("a"), column("b")])
    turns = 0
    working = True

    async def look() -> None:
        nonlocal turns
        while working:
            turns += 1
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    numbers = [1.0] * 50_000
    answer = await ask(house, columns=[InputColumn(name=name, values=doubles(numbers)) for name in "ab"])
    working = False
    await looking
    assert len(answer.outputs[0].values.integers.values) == 50_000
    assert turns >= 50_000 / batch_columns.CHUNK_ROWS


@pytest.mark.parametrize("kind", ["long", "integer", "boolean"])
def test_nan_in_a_column_that_cannot_hold_it_is_null(kind: str) -> None:
    """A column of integers or booleans with gaps, which pandas holds as floats with NaN, has nulls there."""
    for required in (True, False):
        (column,) = columns_of(ModelSignature(inputs=[ColumnSpec(name="a", type=kind, required=required)]))
        found = convert(column, ColumnData(np.array([1.0, math.nan, 0.0, math.nan]), np.array([3])))
        if required:
            assert found.bad == {1: "must not be null", 3: "must not be null"}
        else:
            assert (list(found.values), found.bad) == ([1, None, 0, None], {})
