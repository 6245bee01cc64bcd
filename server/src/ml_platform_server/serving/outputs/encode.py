"""Encodes a prediction to protobuf bytes: prediction, probability, outputs, and which of these are integers or infinite."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from ml_platform_server import protobuf_encoding
from ml_platform_server.serving.outputs.prediction import Prediction


class Tags(NamedTuple):
    """The tags of a prediction's fields in a message."""

    prediction: bytes
    probability: bytes
    outputs: bytes
    integer_outputs: bytes
    integer_prediction: bytes
    infinite_outputs: bytes
    infinite_prediction: bytes


# Fields 5, 6, 7 and 11 to 14 of PredictResponse; 1, 2, 3 and 7 to 10 of RowPrediction.
REPLY = Tags(b"\x2a", b"\x31", b"\x3a", b"\x5a", b"\x60", b"\x6a", b"\x70")
ROW = Tags(b"\x0a", b"\x11", b"\x1a", b"\x3a", b"\x40", b"\x4a", b"\x50")


def encoded(answer: Prediction, tags: Tags = REPLY) -> bytes:
    """Encode the fields of a prediction."""
    prediction = protobuf_encoding.field(tags.prediction, protobuf_encoding.value(answer.prediction))
    probability = b"" if answer.probability is None else protobuf_encoding.double(tags.probability, answer.probability)
    names = [name for name, value in answer.outputs.items() if is_integer(value)]
    types = integers(names, prediction=is_integer(answer.prediction), tags=tags)
    outputs = protobuf_encoding.struct(answer.outputs)
    if b"Infinity" in outputs:
        types += _infinite(answer, tags)
    return prediction + probability + protobuf_encoding.field(tags.outputs, outputs) + types


def integers(names: Iterable[str], *, prediction: bool, tags: Tags = REPLY) -> bytes:
    """Encode the fields that list the integer outputs and mark an integer prediction."""
    encoded_names = b"".join(protobuf_encoding.field(tags.integer_outputs, name.encode()) for name in names)
    return encoded_names + tags.integer_prediction + b"\x01" if prediction else encoded_names


def _infinite(answer: Prediction, tags: Tags) -> bytes:
    names = [name for name, value in answer.outputs.items() if is_infinite(value)]
    encoded_names = b"".join(protobuf_encoding.field(tags.infinite_outputs, name.encode()) for name in names)
    return encoded_names + tags.infinite_prediction + b"\x01" if is_infinite(answer.prediction) else encoded_names


def is_infinite(value: object) -> bool:
    """Whether a plain value is infinite, or a list or mapping that holds infinity at any depth."""
    if isinstance(value, dict):
        return any(map(is_infinite, value.values()))
    if isinstance(value, list):
        return any(map(is_infinite, value))
    return isinstance(value, float) and math.isinf(value)


def is_integer(value: object) -> bool:
    """Whether a plain value is an integer, or a list or mapping whose first value is one."""
    while type(value) is not int:
        if isinstance(value, dict):
            value = next(iter(value.values()), None)
        elif isinstance(value, list) and value:
            value = value[0]
        else:
            return False
    return True
