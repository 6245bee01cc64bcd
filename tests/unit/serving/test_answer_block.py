"""Answers that are written onto the wire all at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ml_platform.v1 import predictions_pb2
from ml_platform_server import wire
from ml_platform_server.serving.answer_wire import encoded
from ml_platform_server.serving.answers import Answer
from ml_platform_server.serving.column_answers import ColumnAnswers
from ml_platform_server.serving.runtimes.answer_block import MOST_NUMBERS, AnswerBlock, Template
from ml_platform_server.values import to_struct, to_value

NUMBERS = np.random.default_rng(7)
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "a number": ({"y": NUMBERS.normal(size=9)}, None),
    "single precision": ({"y": NUMBERS.normal(size=9).astype(np.float32)}, None),
    "a label and probabilities": (
        {"label": np.arange(9), "probabilities": NUMBERS.random((9, 2), np.float32)},
        NUMBERS.random(9),
    ),
    "a vector": ({"y": NUMBERS.normal(size=(9, 5))}, None),
    "several outputs, long names": ({"a" * 200: NUMBERS.normal(size=9), "ü": NUMBERS.integers(-9, 9, (9, 3))}, None),
}


def block_of(outputs, probabilities):
    return AnswerBlock.of(ColumnAnswers(outputs, None if probabilities is None else lambda: probabilities))


@pytest.mark.parametrize("case", CASES)
def test_a_block_says_what_its_rows_say_one_by_one(case):
    """Every row of a block has the bytes, and the plain values, that it has when it is written on its own."""
    outputs, probabilities = CASES[case]
    block = block_of(outputs, probabilities)
    said = block.answers(Template(block))
    assert len(said) == 9
    for at, answer in enumerate(said):
        plain = {name: values[at].tolist() for name, values in outputs.items()}
        told = None if probabilities is None else float(probabilities[at])
        alone = Answer(next(iter(plain.values())), told, plain)
        assert Answer(answer.prediction, answer.probability, answer.outputs) == alone
        assert predictions_pb2.PredictResponse.FromString(answer.encoded) == predictions_pb2.PredictResponse.FromString(
            encoded(alone)
        )


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, math.nan]),
        np.array([1.0, math.inf]),
        np.array([2**53 + 1, 1]),
        np.array(["a", "b"], object),
        np.array([True, False]),
        np.zeros((2, MOST_NUMBERS + 1)),
        np.zeros((2, 2, 2)),
        [[1.0], [1.0, 2.0]],
    ],
    ids=["nan", "infinity", "too large", "text", "truth", "long", "matrix", "ragged"],
)
def test_what_a_template_cannot_say_is_left_to_be_written_row_by_row(values):
    """Numbers that JSON cannot say, other things than numbers, and long vectors make no block."""
    assert block_of({"y": values}, None) is None


@pytest.mark.parametrize(
    "thing",
    [
        None,
        True,
        False,
        0,
        -1.5,
        2**53,
        2**53 + 1,
        math.nan,
        -math.inf,
        "",
        "ü" * 200,
        [],
        [1, [None, "a"]],
        {},
        {"a": {"b": [1]}},
        b"x",
        (1, 2),
    ],
)
def test_values_are_written_as_protobuf_writes_them(thing):
    """What is written by hand reads as the message that protobuf would have made of the same thing."""
    value = to_value(thing)
    assert type(value).FromString(wire.value(thing)) == value
    struct = to_struct({"a": thing, "": thing, "n" * 300: 1})
    assert type(struct).FromString(wire.struct({"a": thing, "": thing, "n" * 300: 1})) == struct
