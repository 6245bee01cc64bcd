"""What a pipeline's declaration allows, and what came instead."""

from __future__ import annotations

from typing import Any

import pytest

from ml_platform_server.backends.airflow.parameters import allowed_values, refusal, refused_parameter, undeclared
from tests.support.refusals import refused

RATE = {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "title": "Learning rate"}


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, ""),
        ({"title": "Anything"}, ""),
        (RATE, "a number above 0 and at most 1"),
        ({"type": ["null", "integer"], "minimum": 1}, "null or an integer at least 1"),
        ({"type": "string", "enum": ["gini", "entropy"]}, 'one of "gini", "entropy"'),
        ({"const": 3}, "3"),
        ({"type": "string", "format": "date"}, "a string written as a date"),
        ({"maxLength": 3}, "a value at most 3 characters long"),
        ({"type": "array", "items": {"type": "string"}}, 'a list as the JSON schema {"items": {"type": "string"}} has it'),
    ],
)
def test_a_schema_is_told_in_words(schema: dict[str, Any], words: str) -> None:
    """What has no words is quoted as it is."""
    assert allowed_values(schema) == words


@pytest.mark.parametrize(
    ("conf", "description"),
    [
        ({"learning_rate": 7}, "is 7; the pipeline wants a number above 0 and at most 1"),
        ({"learning_rate": "0.1"}, 'is "0.1"; the pipeline wants a number above 0 and at most 1'),
        ({}, "is missing; the pipeline wants a number above 0 and at most 1"),
        ({"learning_rate": "x" * 1000}, f'is "{"x" * 98}…; the pipeline wants a number above 0 and at most 1'),
    ],
)
def test_a_refused_parameter_says_what_came_and_what_is_allowed(conf: dict[str, Any], description: str) -> None:
    """In the field's violation, and in the message."""
    error = refusal("learning_rate", conf, {"learning_rate": {"value": 0.1, "schema": RATE}})
    assert [(one.field, one.description) for one in error.violations] == [("parameters.learning_rate", description)]
    assert error.message == f"parameters.learning_rate: {description}."


@pytest.mark.parametrize("declared", [{}, {"depth": {"value": 3, "schema": {}}}, {"depth": 3}])
def test_a_declaration_that_says_nothing_is_not_quoted(declared: dict[str, Any]) -> None:
    """What came is told all the same."""
    assert refusal("depth", {"depth": 1}, declared).message == (
        "parameters.depth: is 1, which the pipeline's declaration does not allow."
    )


@pytest.mark.parametrize(
    ("names", "declared", "strangers"),
    [
        (["anything"], [], []),
        (["depth"], ["depth", "rate"], []),
        (["depth", "notes"], ["depth", "rate"], ["notes"]),
        (["lag_2"], ["lag_1"], ["lag_2"]),
        (["rate", "rates"], ["rate"], ["rates"]),
    ],
)
def test_names_that_are_not_declared_are_found(names: list[str], declared: list[str], strangers: list[str]) -> None:
    """Where a pipeline declares none, it takes all; names that differ in a number are others, not misspelt ones."""
    assert undeclared(names, declared) == strangers


@pytest.mark.parametrize("name", ["lerning_rate", "learningRate", "LEARNING_RATE", "learning_rat"])
def test_a_misspelt_name_is_refused(name: str) -> None:
    """The run would start with the default instead."""
    with refused("INVALID_FIELDS") as error:
        undeclared([name], ["learning_rate", "depth"])
    assert error.value.message == f"parameters.{name}: is no parameter of the pipeline; did you mean 'learning_rate'?"


def test_a_refused_parameter_is_found_in_the_refusal() -> None:
    """Only its name is taken; the rest is the vendor's text."""
    assert refused_parameter("Invalid input for param depth: 'x' is not of type 'integer'") == "depth"
    assert refused_parameter("Something else") == ""
