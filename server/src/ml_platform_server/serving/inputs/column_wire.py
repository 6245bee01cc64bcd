"""Columns from protobuf's bytes to NumPy: a packed field is read as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from ml_platform.v1.predictions_pb2 import BoolValues, DoubleValues, Int64Values
from ml_platform_server import varints

Array = npt.NDArray[Any]


def doubles(values: DoubleValues) -> Array:
    """The numbers of a message."""
    return np.frombuffer(_content(values), "<f8")


def integers(values: Int64Values) -> Array:
    """The whole numbers of a message."""
    return varints.unpacked(_content(values))


def booleans(values: BoolValues) -> Array:
    """The truth values of a message."""
    return np.frombuffer(_content(values), np.bool_)


def _content(values: DoubleValues | Int64Values | BoolValues) -> bytes:
    return packed_content(values) if values.values else b""


def packed_content(message: Message) -> bytes:
    """What a message holds in its only field that is set, which is packed and has a number below 16.

    It comes without the field's tag and length, and without fields of a contract to come.
    """
    data = message.SerializeToString()
    size, at = varints.read(data, 1, len(data))
    return data[at : at + size]
