"""Columns of outputs written with NumPy or in chunks, beside protobuf's own writing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf import struct_pb2

from ml_platform.v1.predictions_pb2 import (
    BoolValues,
    ColumnValues,
    DoubleValues,
    Int64Values,
    StringValues,
    VectorValues,
)
from ml_platform_server import varints
from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.outputs.encode_columns import CHUNK, NESTED_CHUNK, encode_column
from ml_platform_server.struct_values import to_value
from ml_platform_server.turns import Turn
from tests.support.column_values import DOUBLES, NUMBERS, some

Array = npt.NDArray[Any]


@pytest.mark.parametrize("nulls", [[], [0], [0, 5, 126], [127]])
@pytest.mark.parametrize("count", [128, 300])
async def test_columns_are_written_as_protobuf_writes_them(count: int, nulls: list[int]) -> None:
    """To the byte: doubles, whole numbers, truth values, vectors and texts, with nulls and without."""
    doubles, short, flags = np.array(some(DOUBLES, count)), np.array(some([0, 127], count)), np.array(some([True, False], count))
    single = np.where(np.abs(doubles) > 1e38, 0, doubles).astype(np.float32)
    texts = some(["", "größe", "数据🙂"], count)
    pairs: list[tuple[Array | list[Any], ColumnValues]] = [
        (doubles, ColumnValues(doubles=DoubleValues(values=doubles.tolist()), nulls=nulls)),
        (single, ColumnValues(doubles=DoubleValues(values=single.tolist()), nulls=nulls)),
        (doubles[::-1], ColumnValues(doubles=DoubleValues(values=doubles[::-1].tolist()), nulls=nulls)),
        (short, ColumnValues(integers=Int64Values(values=short.tolist()), nulls=nulls)),
        (flags, ColumnValues(booleans=BoolValues(values=flags.tolist()), nulls=nulls)),
        (texts, ColumnValues(strings=StringValues(values=texts), nulls=nulls)),
    ]
    for dtype in (np.int64, np.int32, np.uint64, np.int8):
        limits = np.iinfo(dtype)
        numbers = np.array(some([each for each in NUMBERS if limits.min <= each <= limits.max], count), dtype)
        pairs.append((numbers, ColumnValues(integers=Int64Values(values=numbers.tolist()), nulls=nulls)))
    for width in (1, 2, 200):
        matrix = np.array(some(DOUBLES, count * width)).reshape(count, width)
        vectors = VectorValues(values=matrix.reshape(-1).tolist(), length=width)
        pairs.append((matrix, ColumnValues(vectors=vectors, nulls=nulls)))
        whole = np.array(some(NUMBERS, count * width)).reshape(count, width)
        integers = VectorValues(integers=whole.reshape(-1).tolist(), length=width)
        pairs.append((whole, ColumnValues(vectors=integers, nulls=nulls)))
    for values, message in pairs:
        assert await encode_column(values, Turn(), nulls) == message.SerializeToString()


@pytest.mark.parametrize(
    "array",
    [np.array([2**64 - 1, 1], np.uint64), np.array([[2**64 - 1, 1]], np.uint64), np.zeros((2, 2, 2)), np.zeros((2, 0))],
    ids=["too large", "vector with a number too large", "three dimensions", "empty vectors"],
)
async def test_what_no_packed_field_holds_is_encoded_as_anything(array: Array) -> None:
    """As lists, or as text for a number that is too large."""
    values = [to_value(thing) for thing in array.tolist()]
    expected = ColumnValues(any=struct_pb2.ListValue(values=values))
    assert await encode_column(array, Turn()) == expected.SerializeToString()


@pytest.mark.parametrize("count", [NESTED_CHUNK - 1, NESTED_CHUNK, NESTED_CHUNK + 1, 2 * CHUNK + 1])
async def test_chunks_add_up_to_what_protobuf_writes(count: int) -> None:
    """Of lists and objects with nulls among them, and of texts."""
    things = some([None, [1, [2.5]], {"a": "b"}, "text", True, 2**60], count)
    nulls = [at for at, thing in enumerate(things) if thing is None]
    anything = ColumnValues(any=struct_pb2.ListValue(values=map(to_value, things)), nulls=nulls)
    assert ColumnValues.FromString(await encode_column(things, Turn())) == anything
    texts = some(["", "größe", None], count)
    nulls = [at for at, text in enumerate(texts) if text is None]
    column = ColumnValues(strings=StringValues(values=[text or "" for text in texts]), nulls=nulls)
    assert await encode_column(texts, Turn()) == column.SerializeToString()


class EagerTurn(Turn):
    """A turn that is always over, and counts how often others had theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @property
    def over(self) -> bool:
        """Always."""
        return True

    async def next(self) -> None:
        """Count."""
        self.count += 1


@pytest.mark.parametrize(
    ("values", "turns"),
    [
        (np.full((10_000, 19), 2**60), 190_000 / CHUNK),
        (np.full((10_000, 3, 3), 0.5), 10_000 / NESTED_CHUNK),
        ([[1, 2, 3]] * 10_000, 10_000 / NESTED_CHUNK),
        (["text"] * 100_000, 100_000 / CHUNK),
    ],
    ids=["vectors of integers", "three dimensions", "lists", "texts"],
)
async def test_others_have_their_turn(values: Values, turns: float) -> None:
    """Between any two chunks."""
    turn = EagerTurn()
    await encode_column(values, turn)
    assert turn.count == math.ceil(turns)


def test_whole_numbers_of_one_byte_each_are_packed_at_once() -> None:
    """And no others are."""
    assert varints.packed(np.array([0, 127])) == b"\x00\x7f"
    assert varints.packed(np.array([128])) is None
    assert varints.packed(np.array([-1])) is None
    assert varints.packed(np.array([], np.int64)) == b""
