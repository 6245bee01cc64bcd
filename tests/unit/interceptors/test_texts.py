"""Many texts looked at as a whole, beside the same texts looked at one by one."""

from __future__ import annotations

import itertools

import pytest

from ml_platform.v1.predictions_pb2 import TextValues
from ml_platform.v1.validation_pb2 import FieldRules
from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation.field_checks import compile_texts, compile_value
from ml_platform_server.interceptors.validation.rules import Rules

FIELD = TextValues.DESCRIPTOR.fields_by_name["values"]
TEXTS = ["", "a", "größe", "abc", "abcd", "a\0b", "\0"]


@pytest.mark.parametrize("rules", [FieldRules(), FieldRules(max_len=3)], ids=["without a rule", "of a length"])
def test_texts_are_fine_together_if_each_is_fine(rules: FieldRules) -> None:
    """Neither more nor less is refused."""
    fine, check = compile_texts(FIELD, rules), compile_value(FIELD, rules)
    assert fine is not None
    assert check is not None
    assert fine([])
    for texts in itertools.product(TEXTS, repeat=2):
        violations: list[Violation] = []
        for text in texts:
            check(text, "x", violations)
        assert fine(texts) == (not violations)


@pytest.mark.parametrize("rules", [FieldRules(required=True), FieldRules(pattern="a"), FieldRules(pattern_hint="YYYY-MM-DD")])
def test_rules_that_look_into_a_text_are_kept_one_by_one(rules: FieldRules) -> None:
    """Nothing is said of the whole."""
    assert compile_texts(FIELD, rules) is None


def test_the_text_that_is_wrong_is_named() -> None:
    """Among many that are not."""
    check = Rules().check_for(TextValues)
    assert check is not None
    violations: list[Violation] = []
    check(TextValues(values=["a", "b\0", "c"]), "", violations)
    assert [each.field for each in violations] == ["values[1]"]
