"""Columns read from the wire with NumPy, beside protobuf's own reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from ml_platform.v1.predictions_pb2 import (
    BoolValues,
    ColumnValues,
    DoubleValues,
    InputColumn,
    Int64Values,
    VectorValues,
)
from ml_platform_server.serving.inputs.columns import decode_columns
from tests.support.column_values import DOUBLES, NUMBERS, some

Array = npt.NDArray[Any]
COUNTS = (1, 2, 127, 128, 129, 16_384, 70_000)


async def taken(values: ColumnValues) -> list[Any]:
    """What is read of a column."""
    sent, rows = await decode_columns([InputColumn(name="a", values=values)])
    array = sent["a"].values
    assert isinstance(array, np.ndarray)
    assert len(array) == rows
    found: list[Any] = array.tolist()
    return found


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("things", [[0, 1, 127], [0, 128], NUMBERS, [-1]], ids=["short", "two bytes", "any", "negative"])
async def test_whole_numbers_are_read_as_protobuf_reads_them(things: list[int], count: int) -> None:
    """Of every length, and negative ones."""
    numbers = some(things, count)
    assert await taken(ColumnValues(integers=Int64Values(values=numbers))) == numbers


@pytest.mark.parametrize(("field", "message"), [("doubles", DoubleValues), ("integers", Int64Values), ("booleans", BoolValues)])
@pytest.mark.parametrize("count", [1, 300])
async def test_fields_of_a_contract_to_come_are_no_values(field: str, message: type[Any], count: int) -> None:
    """A message that holds fields that this server does not know has the values that it has without them."""
    plain = message(values=[1] * count)
    unknown = b"\x7a\x09" + b"\x01" * 9  # field 15, of bytes
    for data in (plain.SerializeToString() + unknown, unknown + plain.SerializeToString()):
        read = message.FromString(data)
        assert len(read.SerializeToString()) == len(data)
        assert await taken(ColumnValues(**{field: read})) == [1] * count


@pytest.mark.parametrize("count", COUNTS)
async def test_doubles_and_truth_values_are_read_as_protobuf_reads_them(count: int) -> None:
    """Whatever their number, bit for bit."""
    doubles, flags = some(DOUBLES, count), some([True, False], count)
    found = await taken(ColumnValues(doubles=DoubleValues(values=doubles)))
    assert [repr(each) for each in found] == [repr(each) for each in doubles]
    assert await taken(ColumnValues(booleans=BoolValues(values=flags))) == flags


@pytest.mark.parametrize("width", [1, 3])
async def test_vectors_are_read_in_their_kind(width: int) -> None:
    """Integers to the last bit, whatever their size, and doubles."""
    numbers = some(NUMBERS, 9)
    rows = [numbers[at : at + width] for at in range(0, 9, width)]
    assert await taken(ColumnValues(vectors=VectorValues(integers=numbers, length=width))) == rows
    doubles = VectorValues(values=map(float, numbers), length=width)
    assert await taken(ColumnValues(vectors=doubles)) == [list(map(float, row)) for row in rows]


async def test_numbers_that_were_not_packed_are_read_too() -> None:
    """A caller may send a field of numbers one by one, or in several pieces; protobuf packs them before they are looked at."""
    singly = Int64Values.FromString(b"\x08\x05\x0a\x02\x06\x07\x08\xac\x02")
    assert await taken(ColumnValues(integers=singly)) == [5, 6, 7, 300]
    flags = BoolValues.FromString(b"\x08\x01\x08\x07\x0a\x01\x00")
    assert await taken(ColumnValues(booleans=flags)) == [True, True, False]
