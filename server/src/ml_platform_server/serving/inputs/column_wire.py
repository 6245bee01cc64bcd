"""Decodes packed protobuf fields to NumPy arrays without a Python object per value."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import Message

from ml_platform.v1.predictions_pb2 import BoolValues, DoubleValues, Int64Values
from ml_platform_server import varints

Array = npt.NDArray[Any]


def doubles(values: DoubleValues) -> Array:
    """Decode to float64."""
    return np.frombuffer(_content(values), "<f8")


def integers(values: Int64Values) -> Array:
    """Decode to int64."""
    return varints.unpacked(_content(values))


def booleans(values: BoolValues) -> Array:
    """Decode to booleans."""
    return np.frombuffer(_content(values), np.bool_)


def _content(values: DoubleValues | Int64Values | BoolValues) -> bytes:
    return packed_content(values) if values.values else b""


def packed_content(message: Message) -> bytes:
    """The content of the only set field of a message, without the field's tag and length, and without unknown fields.

    The field must be packed and have a number below 16.
    """
    data = message.SerializeToString()
    size, at = varints.read(data, 1, len(data))
    return data[at : at + size]
