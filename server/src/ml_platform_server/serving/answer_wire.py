"""What a model says of a row as it travels in a PredictResponse: prediction, probability, outputs."""

from __future__ import annotations

from struct import Struct

from ml_platform_server import wire
from ml_platform_server.serving.answers import Said

_double = Struct("<cd").pack


def encoded(answer: Said) -> bytes:
    """These three fields on the wire."""
    prediction = wire.field(b"\x2a", wire.value(answer.prediction))
    probability = b"" if answer.probability is None else _double(b"\x31", answer.probability)
    return prediction + probability + wire.field(b"\x3a", wire.struct(answer.outputs))
