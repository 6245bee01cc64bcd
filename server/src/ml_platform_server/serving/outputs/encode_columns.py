"""Columns of outputs as the response has them: ColumnValues as protobuf bytes.

Arrays are written as a whole; a test compares the bytes with protobuf's own. Everything else is encoded in chunks, and other
calls get the event loop between two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from google.protobuf import struct_pb2

from ml_platform.v1.predictions_pb2 import IntegerValues, TextValues
from ml_platform_server import protobuf_encoding, varints
from ml_platform_server.serving.inputs.column_wire import packed_content
from ml_platform_server.serving.inputs.columns import Array, Values, gathered, whole
from ml_platform_server.serving.turns import Turn
from ml_platform_server.struct_values import to_value

# Values that are encoded without a break: 8,192 integers take about a millisecond, as many lists of 20 about 40.
CHUNK = 8192
NESTED_CHUNK = 256

# The tags of ColumnValues' fields, and of the fields of the messages in them.
_DOUBLES, _INTEGERS, _TEXTS, _BOOLEANS, _ANY, _NULLS, _VECTORS = b"\x0a", b"\x12", b"\x1a", b"\x22", b"\x2a", b"\x32", b"\x3a"
_VALUES, _LENGTH, _VECTOR_INTEGERS = b"\x0a", b"\x10", b"\x1a"
_MATRIX = 2


def packed_doubles(tag: bytes, array: Array) -> bytes:
    """A field of packed doubles; nothing for none, as protobuf has it."""
    return protobuf_encoding.field(tag, np.ascontiguousarray(array, "<f8").tobytes()) if array.size else b""


async def encode_column(values: Values, turn: Turn, nulls: Sequence[int] = ()) -> bytes:
    """Encode a column; `nulls` are positions, growing, beside those whose value is None."""
    column = gathered(values) if isinstance(values, list) else whole(values)
    positions = sorted({*nulls, *column.nulls.tolist()}) if column.nulls.size else nulls
    absent = protobuf_encoding.field(_NULLS, b"".join(map(protobuf_encoding.length, positions))) if positions else b""
    things = column.values
    if isinstance(things, np.ndarray):
        if _is_matrix(things):
            return absent + protobuf_encoding.field(_VECTORS, await _vectors(things, turn))
        content = await _array(things, turn)
        if content is not None:
            return content + absent
    elif all(thing is None or type(thing) is str for thing in things):
        return protobuf_encoding.field(_TEXTS, await _texts(things, turn)) + absent
    return protobuf_encoding.field(_ANY, await _anything(things, frozenset(positions), turn)) + absent


def _is_matrix(array: Array) -> bool:
    """Whether it is vectors of numbers that VectorValues can hold."""
    return array.ndim == _MATRIX and array.shape[1] > 0 and (array.dtype.kind == "f" or _fits_int64(array))


def _fits_int64(array: Array) -> bool:
    return array.dtype.kind in "iu" and bool((array <= np.iinfo(np.int64).max).all())


async def _vectors(matrix: Array, turn: Turn) -> bytes:
    width = _LENGTH + protobuf_encoding.length(matrix.shape[1])
    if matrix.dtype.kind == "f":
        return packed_doubles(_VALUES, matrix) + width
    numbers = await _integers(matrix.reshape(-1), turn)
    return width + (protobuf_encoding.field(_VECTOR_INTEGERS, numbers) if numbers else b"")


async def _array(array: Array, turn: Turn) -> bytes | None:
    """The field of ColumnValues that holds an array of numbers or truth values; None for any other."""
    if array.ndim != 1:
        return None
    kind = array.dtype.kind
    if kind == "f":
        return protobuf_encoding.field(_DOUBLES, packed_doubles(_VALUES, array))
    if kind == "b":
        return protobuf_encoding.field(_BOOLEANS, _packed(array.tobytes()))
    return protobuf_encoding.field(_INTEGERS, _packed(await _integers(array, turn))) if _fits_int64(array) else None


def _packed(content: bytes) -> bytes:
    return protobuf_encoding.field(_VALUES, content) if content else b""


async def _integers(array: Array, turn: Turn) -> bytes:
    """The content of a packed field of integers."""
    data = varints.packed(array)
    if data is not None:
        return data
    parts = []
    for part in _chunks(array, CHUNK):
        parts.append(packed_content(IntegerValues(values=part.tolist())))
        if turn.over:
            await turn.next()
    return b"".join(parts)


async def _texts(texts: Sequence[Any], turn: Turn) -> bytes:
    parts = []
    for part in _chunks(texts, CHUNK):
        parts.append(TextValues(values=[text or "" for text in part]).SerializeToString())
        if turn.over:
            await turn.next()
    return b"".join(parts)


async def _anything(things: Any, absent: frozenset[int], turn: Turn) -> bytes:  # noqa: ANN401  # an array or a list
    """A ListValue, whose parts may be written one behind the other."""
    parts, at = [], 0
    for part in _chunks(things, NESTED_CHUNK):
        plain = part.tolist() if isinstance(part, np.ndarray) else part
        values = [to_value(None if place in absent else thing) for place, thing in enumerate(plain, at)]
        parts.append(struct_pb2.ListValue(values=values).SerializeToString())
        at += len(values)
        if turn.over:
            await turn.next()
    return b"".join(parts)


def _chunks(things: Any, size: int) -> Iterator[Any]:  # noqa: ANN401  # an array or a list
    return (things[start : start + size] for start in range(0, len(things), size))
