"""Answers that are written onto the wire all at once."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from ml_platform.v1 import predictions_pb2
from ml_platform_server import protobuf_encoding
from ml_platform_server.serving.outputs.columns import ColumnPredictions
from ml_platform_server.serving.outputs.encode import encoded
from ml_platform_server.serving.outputs.encoded_block import MOST_NUMBERS, EncodedBatch, Template
from ml_platform_server.serving.outputs.encoded_rows import SmallBatchEncoder
from ml_platform_server.serving.outputs.prediction import PlainPrediction, to_predictions
from ml_platform_server.serving.runtimes.onnx.outputs import OutputReader
from ml_platform_server.struct_values import to_struct, to_value

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


class Output:
    """What ONNX Runtime tells of an output that gives such values."""

    def __init__(self, name: str, values: Any) -> None:
        self.name = name
        self.type = {"i": "tensor(int64)", "f": "tensor(float)"}[values.dtype.kind]
        self.shape = [None, *values.shape[1:]]


def block_of(outputs, probabilities):
    return EncodedBatch.of(ColumnPredictions(outputs, None if probabilities is None else lambda: probabilities))


def integers_of(outputs):
    """The outputs that are integers, as a graph tells them."""
    return {name for name, values in outputs.items() if values.dtype.kind in "iu"}


@pytest.mark.parametrize("case", CASES)
def test_a_block_says_what_its_rows_say_one_by_one(case):
    """Every row of a block has the bytes, and the plain values, that it has when it is written on its own."""
    outputs, probabilities = CASES[case]
    block = block_of(outputs, probabilities)
    said = block.answers(Template(block.shapes, integers_of(outputs)))
    assert len(said) == 9
    for at, answer in enumerate(said):
        plain = {name: values[at].tolist() for name, values in outputs.items()}
        told = None if probabilities is None else float(probabilities[at])
        alone = PlainPrediction(next(iter(plain.values())), told, plain)
        assert PlainPrediction(answer.prediction, answer.probability, answer.outputs) == alone
        assert predictions_pb2.PredictResponse.FromString(answer.encoded) == predictions_pb2.PredictResponse.FromString(
            encoded(alone)
        )


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, math.nan]),
        np.array([1.0, math.inf]),
        np.array([2**53, 1]),
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


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    ("outputs", "probabilities"),
    [
        ([("label", np.arange(3)), ("probabilities", np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]], np.float32))], 1),
        ([("label", np.arange(3)), ("probabilities", np.array([[0.2, 0.7, 0.1]] * 3))], 1),
        ([("label", np.arange(3)), ("probabilities", np.array([[-1.19e-07, 1.0000001]] * 3, np.float32))], 1),
        ([("y", np.array([[1.5], [-2.5], [0.0]]))], None),
        ([("y", np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])), ("ü" * 100, np.array([2**53 - 1, -(2**53 - 1), 0]))], None),
    ],
    ids=["two classes", "three classes", "beyond 0 and 1", "a column", "a vector and whole numbers"],
)
def test_a_few_rows_say_what_the_thorough_way_says(outputs, probabilities, rows):
    """Few rows have the answers, and the bytes, that they have when each is read and written field by field."""
    names, found = [name for name, _ in outputs], [values[:rows] for _, values in outputs]
    template = partial(Template, integers=integers_of(dict(outputs)))
    said = SmallBatchEncoder(names, probabilities, template).of(found, rows)
    reader = OutputReader([Output(name, values) for name, values in outputs])
    assert reader.probabilities == probabilities
    expected = to_predictions(*reader.read(found, rows))
    assert [each._replace(encoded=b"") for each in said] == expected
    assert [each.encoded for each in said] == [encoded(each) for each in expected]


@pytest.mark.parametrize(
    "found",
    [
        [np.array([math.nan])],
        [np.array([1.0, -math.inf])],
        [np.array([2**53])],
        [np.array(["a"], object)],
        [np.array([True])],
        [np.zeros((1, MOST_NUMBERS + 1))],
        [np.zeros((1, MOST_NUMBERS)), np.zeros(1)],
        [np.zeros((1, 2, 2))],
        [np.zeros((1, 0))],
        [np.zeros(0)],
        [[{"a": 0.5, "b": 0.5}]],
    ],
    ids=["nan", "infinity", "large", "text", "truth", "long", "long together", "matrix", "empty", "no row", "map"],
)
def test_what_few_rows_cannot_say_is_left_to_the_thorough_way(found):
    """The same as for a block."""
    names = [f"output {at}" for at in range(len(found))]
    assert SmallBatchEncoder(names, None, Template).of(found, len(found[0])) is None


@pytest.mark.parametrize(
    "given",
    [[0.5, 0.6], [-0.1, 1.1], [math.nan, 1.0], [1.0]],
    ids=["too much", "outside", "nan", "a single one"],
)
def test_what_are_no_probabilities_is_left_to_the_thorough_way(given):
    """Scores that only look like probabilities are told as outputs, and no probability is made of them."""
    assert SmallBatchEncoder(["label", "probabilities"], 1, Template).of([np.array([1]), np.array([given])], 1) is None


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
    assert type(value).FromString(protobuf_encoding.value(thing)) == value
    struct = to_struct({"a": thing, "": thing, "n" * 300: 1})
    assert type(struct).FromString(protobuf_encoding.struct({"a": thing, "": thing, "n" * 300: 1})) == struct
