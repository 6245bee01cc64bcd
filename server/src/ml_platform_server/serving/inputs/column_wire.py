"""Columns between protobuf's bytes and NumPy: a packed field is read from the wire, and written onto it, as a whole.

Numbers are little-endian on the wire, packed behind their length. A test holds what is written here against what protobuf itself
writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from ml_platform.v1.predictions_pb2 import BooleanValues, DoubleValues, IntegerValues
from ml_platform_server import protobuf_encoding, varints

Array = npt.NDArray[Any]

# The first field of the messages that hold values, and the fields of ColumnValues.
_VALUES = b"\x0a"
_DOUBLES, _INTEGERS, _BOOLEANS, _NULLS, _VECTORS = b"\x0a", b"\x12", b"\x22", b"\x32", b"\x3a"
_LENGTH = b"\x10"
_MATRIX = 2


def doubles(values: DoubleValues) -> Array:
    """The numbers of a message."""
    return np.frombuffer(_content(values), "<f8")


def integers(values: IntegerValues) -> Array:
    """The whole numbers of a message."""
    return varints.unpacked(_content(values))


def booleans(values: BooleanValues) -> Array:
    """The truth values of a message."""
    return np.frombuffer(_content(values), np.bool_)


def _content(values: DoubleValues | IntegerValues | BooleanValues) -> bytes:
    return packed_content(values) if values.values else b""


def packed_content(message: Message) -> bytes:
    """What a message holds in its only field that is set, which is packed and has a number below 16.

    It comes without the field's tag and length, and without fields of a contract to come.
    """
    data = message.SerializeToString()
    size, at = varints.read(data, 1, len(data))
    return data[at : at + size]


def packed_doubles(tag: bytes, array: Array) -> bytes:
    """A field of packed doubles; nothing for none, as protobuf has it."""
    return protobuf_encoding.field(tag, np.ascontiguousarray(array, "<f8").tobytes()) if array.size else b""


def column_values(array: Array, nulls: Sequence[int]) -> bytes | None:
    """The ColumnValues that hold an array of numbers or truth values; None for any other."""
    kind, absent = array.dtype.kind, _nulls(nulls)
    if kind == "f" and array.ndim == _MATRIX and array.shape[1]:
        width = _LENGTH + protobuf_encoding.length(array.shape[1])
        return absent + protobuf_encoding.field(_VECTORS, packed_doubles(_VALUES, array) + width)
    if array.ndim != 1:
        return None
    if kind == "f":
        return protobuf_encoding.field(_DOUBLES, packed_doubles(_VALUES, array)) + absent
    if kind == "b":
        return (
            protobuf_encoding.field(_BOOLEANS, protobuf_encoding.field(_VALUES, array.tobytes()) if array.size else b"") + absent
        )
    if kind in "iu" and (array <= np.iinfo(np.int64).max).all():
        return protobuf_encoding.field(_INTEGERS, _integers(array)) + absent
    return None


def _integers(array: Array) -> bytes:
    data = varints.packed(array)
    if data is None:
        return IntegerValues(values=array.tolist()).SerializeToString()
    return protobuf_encoding.field(_VALUES, data) if data else b""


def _nulls(places: Sequence[int]) -> bytes:
    return protobuf_encoding.field(_NULLS, b"".join(map(protobuf_encoding.length, places))) if places else b""
