"""Probabilities and values on their way out."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf import json_format

from ml_platform_server.serving.outputs.prediction import probability
from ml_platform_server.struct_values import plain, to_struct, to_value


@pytest.mark.parametrize(
    ("label", "given", "classes", "expected"),
    [
        (0, [0.75, 0.25], None, 0.25),
        (1, {"0": 0.25, "1": 0.75}, None, 0.75),
        ("b", [0.25, 0.5, 0.25], ["a", "b", "c"], 0.5),
        ("c", {"a": 0.25, "b": 0.5, "c": 0.25}, None, 0.25),
        (2, [0.25, 0.25, 0.5], [0, 1, 2], 0.5),
        (7, [0.25, 0.25, 0.5], None, 0.5),
        (1, [-1.19e-07, 1.0000001], None, 1.0),
        (0, {"0": 1.0000001, "1": -1.19e-07}, None, 0.0),
        (2, [-1.19e-07, 0.0, 1.0000001], None, 1.0),
        (1, [-0.0001, 1.0001], None, None),
        (0, [1.5, -0.5], None, None),
        (0, [0.25, 0.25], None, None),
        (0, [None, 1.0], None, None),
        ([0, 1], [0.25, 0.75], None, None),
        (0, 0.5, None, None),
        (0, [], None, None),
    ],
)
def test_probability_is_that_of_the_positive_or_the_predicted_class(
    label: object, given: object, classes: list[object] | None, expected: float | None
) -> None:
    """Of two classes the second counts, of more the predicted one; what are no probabilities give none."""
    assert expected == probability(label, given, classes)


@pytest.mark.parametrize(
    ("thing", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3.0),
        (2.5, 2.5),
        ("a", "a"),
        ([], []),
        ({}, {}),
        ([1, [True, "x"]], [1.0, [True, "x"]]),
        ({"a": {"b": None}}, {"a": {"b": None}}),
        (float("nan"), None),
        (float("-inf"), "-Infinity"),
        (2**60, "1152921504606846976"),
        (b"abc", "YWJj"),
        (datetime(2024, 3, 31, 12, tzinfo=UTC), "2024-03-31T12:00:00Z"),
    ],
)
def test_everything_can_be_said_in_json(thing: object, expected: object) -> None:
    """Whatever a model or a feature store gives becomes a Value that JSON can say."""
    value = to_value(thing)

    assert expected == plain(value)
    json_format.MessageToJson(value)


def test_a_struct_holds_values_by_name() -> None:
    """Outputs by name become a Struct, in which NaN is null."""
    assert json_format.MessageToDict(to_struct({"a": 1, "b": float("nan")})) == {"a": 1.0, "b": None}
