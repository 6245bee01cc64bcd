"""Columns read from the wire and written onto it with NumPy, beside protobuf's own reading and writing."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ml_platform.v1.predictions_pb2 import (
    BooleanValues,
    ColumnValues,
    DoubleValues,
    InputColumn,
    IntegerValues,
    TextValues,
    VectorValues,
)
from ml_platform_server import varints
from ml_platform_server.serving.inputs.columns import received, told

Array = npt.NDArray[Any]
COUNTS = (1, 2, 127, 128, 129, 16_384, 70_000)
NUMBERS = [0, 1, 127, 128, 300, 16_383, 16_384, 2**31, 2**56, 2**63 - 1, -1, -(2**31), -(2**63)]
DOUBLES = [0.0, -0.0, 0.1, 1e300, float("inf"), float("-inf"), float("nan")]


async def taken(values: ColumnValues) -> list[Any]:
    """What is read of a column."""
    sent, rows = await received([InputColumn(name="a", values=values)])
    array = sent["a"].values
    assert isinstance(array, np.ndarray)
    assert len(array) == rows
    found: list[Any] = array.tolist()
    return found


def some(things: list[Any], count: int) -> list[Any]:
    """So many of them."""
    return random.Random(count).choices(things, k=count)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("things", [[0, 1, 127], [0, 128], NUMBERS, [-1]], ids=["short", "two bytes", "any", "negative"])
async def test_whole_numbers_are_read_as_protobuf_reads_them(things: list[int], count: int) -> None:
    """Of every length, and negative ones."""
    numbers = some(things, count)
    assert await taken(ColumnValues(integers=IntegerValues(values=numbers))) == numbers


@pytest.mark.parametrize("message", [DoubleValues, IntegerValues, BooleanValues])
@pytest.mark.parametrize("count", [1, 300])
async def test_fields_of_a_contract_to_come_are_no_values(message: type[Any], count: int) -> None:
    """A message that holds fields that this server does not know has the values that it has without them."""
    plain = message(values=[1] * count)
    unknown = b"\x7a\x09" + b"\x01" * 9  # field 15, of bytes
    for data in (plain.SerializeToString() + unknown, unknown + plain.SerializeToString()):
        read = message.FromString(data)
        assert len(read.SerializeToString()) == len(data)
        column = ColumnValues(**{message.__name__.removesuffix("Values").lower() + "s": read})
        assert await taken(column) == [1] * count


@pytest.mark.parametrize("count", COUNTS)
async def test_doubles_and_truth_values_are_read_as_protobuf_reads_them(count: int) -> None:
    """Whatever their number, bit for bit."""
    doubles, flags = some(DOUBLES, count), some([True, False], count)
    found = await taken(ColumnValues(doubles=DoubleValues(values=doubles)))
    assert [repr(each) for each in found] == [repr(each) for each in doubles]
    assert await taken(ColumnValues(booleans=BooleanValues(values=flags))) == flags


async def test_numbers_that_were_not_packed_are_read_too() -> None:
    """A caller may send a field of numbers one by one, or in several pieces; protobuf packs them before they are looked at."""
    singly = IntegerValues.FromString(b"\x08\x05\x0a\x02\x06\x07\x08\xac\x02")
    assert await taken(ColumnValues(integers=singly)) == [5, 6, 7, 300]
    flags = BooleanValues.FromString(b"\x08\x01\x08\x07\x0a\x01\x00")
    assert await taken(ColumnValues(booleans=flags)) == [True, True, False]


@pytest.mark.parametrize("nulls", [[], [0], [0, 5, 126], [127]])
@pytest.mark.parametrize("count", [128, 300])
def test_columns_are_written_as_protobuf_writes_them(count: int, nulls: list[int]) -> None:
    """To the byte: doubles, whole numbers, truth values, vectors and texts, with nulls and without."""
    doubles, short, flags = np.array(some(DOUBLES, count)), np.array(some([0, 127], count)), np.array(some([True, False], count))
    single = np.where(np.abs(doubles) > 1e38, 0, doubles).astype(np.float32)
    texts = some(["", "größe", "数据🙂"], count)
    pairs: list[tuple[Array | list[Any], ColumnValues]] = [
        (doubles, ColumnValues(doubles=DoubleValues(values=doubles.tolist()), nulls=nulls)),
        (single, ColumnValues(doubles=DoubleValues(values=single.tolist()), nulls=nulls)),
        (doubles[::-1], ColumnValues(doubles=DoubleValues(values=doubles[::-1].tolist()), nulls=nulls)),
        (short, ColumnValues(integers=IntegerValues(values=short.tolist()), nulls=nulls)),
        (flags, ColumnValues(booleans=BooleanValues(values=flags.tolist()), nulls=nulls)),
        (texts, ColumnValues(texts=TextValues(values=texts), nulls=nulls)),
    ]
    for dtype in (np.int64, np.int32, np.uint64, np.int8):
        limits = np.iinfo(dtype)
        numbers = np.array(some([each for each in NUMBERS if limits.min <= each <= limits.max], count), dtype)
        pairs.append((numbers, ColumnValues(integers=IntegerValues(values=numbers.tolist()), nulls=nulls)))
    for width in (1, 2, 200):
        matrix = np.array(some(DOUBLES, count * width)).reshape(count, width)
        vectors = VectorValues(values=matrix.reshape(-1).tolist(), length=width)
        pairs.append((matrix, ColumnValues(vectors=vectors, nulls=nulls)))
    for values, message in pairs:
        assert told(values, nulls) == message.SerializeToString()


@pytest.mark.parametrize(
    "array",
    [np.array([2**64 - 1, 1], np.uint64), np.zeros((2, 2), np.int64), np.zeros((2, 2, 2)), np.zeros((2, 0))],
    ids=["too large", "matrix of whole numbers", "three dimensions", "empty vectors"],
)
def test_what_no_packed_field_holds_is_told_as_anything(array: Array) -> None:
    """As lists, or as text for a number that is too large."""
    assert ColumnValues.FromString(told(array)).WhichOneof("kind") == "any"


def test_whole_numbers_of_one_byte_each_are_packed_at_once() -> None:
    """And no others are."""
    assert varints.packed(np.array([0, 127])) == b"\x00\x7f"
    assert varints.packed(np.array([128])) is None
    assert varints.packed(np.array([-1])) is None
    assert varints.packed(np.array([], np.int64)) == b""
