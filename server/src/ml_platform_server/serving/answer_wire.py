"""What a model says of a row as it travels: prediction, probability, outputs."""

from __future__ import annotations

from typing import NamedTuple

from ml_platform_server import wire
from ml_platform_server.serving.answers import Said


class Tags(NamedTuple):
    """The tags of the three fields in a message."""

    prediction: bytes
    probability: bytes
    outputs: bytes


# Fields 5, 6 and 7 of PredictResponse; 1, 2 and 3 of RowPrediction.
REPLY = Tags(b"\x2a", b"\x31", b"\x3a")
ROW = Tags(b"\x0a", b"\x11", b"\x1a")


def encoded(answer: Said, tags: Tags = REPLY) -> bytes:
    """The three fields on the wire."""
    prediction = wire.field(tags.prediction, wire.value(answer.prediction))
    probability = b"" if answer.probability is None else wire.double(tags.probability, answer.probability)
    return prediction + probability + wire.field(tags.outputs, wire.struct(answer.outputs))
