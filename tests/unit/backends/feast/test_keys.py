"""The rows that callers send, against the keys that features have."""

from __future__ import annotations

import pytest

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.keys import Column, feature_value, key_values
from tests.support.refusals import refused

KEYS = (Column("user_id", pb.VALUE_TYPE_STRING), Column("shop", pb.VALUE_TYPE_INT64))


def test_keys_are_taken_in_their_types_and_the_rest_is_left() -> None:
    """A key that is text may look like a number."""
    assert key_values(KEYS, {"user_id": 7.0, "shop": "3", "amount": 1.5}, "rows[0]") == {"user_id": "7", "shop": 3}
    assert key_values((), {"amount": 1.5}, "rows[0]") == {}


@pytest.mark.parametrize(
    ("row", "strict", "problem"),
    [
        ({"user_id": "a"}, False, "lacks shop"),
        ({"user_id": "a", "shop": None}, False, "lacks shop"),
        ({}, True, "lacks user_id, shop"),
        ({"user_id": "a", "shop": 1, "x": 1}, True, "has x, which is no key here"),
    ],
)
def test_rows_with_other_keys_are_refused(row: dict[str, object], *, strict: bool, problem: str) -> None:
    """The error names the row, the problem, and the keys that there are."""
    with refused("ENTITY_MISMATCH") as error:
        key_values(KEYS, row, "rows[3]", strict=strict)
    assert error.value.message == f"rows[3]: {problem}."
    assert error.value.remedy == "The keys are: user_id, shop."


@pytest.mark.parametrize("user", [1.5, True, ["a"]])
def test_a_key_of_another_type_is_refused(user: object) -> None:
    """The error names the row, the key and the type."""
    with refused("FEATURE_VALUE_INVALID") as error:
        key_values(KEYS, {"user_id": user, "shop": 1}, "rows[3]")
    assert error.value.violations[0].field == "rows[3].user_id"
    assert "STRING" in error.value.remedy


@pytest.mark.parametrize("number", [2.0**53, -(2.0**53), 12345678901234567.0, 1e300])
@pytest.mark.parametrize("key", ["user_id", "shop"])
def test_a_number_that_may_stand_for_its_neighbour_is_no_key(key: str, number: float) -> None:
    """From 2^53 on, a JSON number is not exact, for keys of either type."""
    with refused("FEATURE_VALUE_INVALID") as error:
        key_values(KEYS, {"user_id": "a", "shop": 1, key: number}, "rows[3]")
    assert "send it as text" in error.value.message
    assert error.value.violations[0].field == f"rows[3].{key}"


@pytest.mark.parametrize("number", [2**53 - 1, 2.0**53 - 1, 2**53 + 1, -(2**63), 10**400])
def test_a_whole_number_that_is_exact_is_the_text_of_its_digits(number: float) -> None:
    """An integer always is; a JSON number is below 2^53."""
    assert key_values(KEYS[:1], {"user_id": number}, "rows[0]") == {"user_id": str(int(number))}


def test_a_feature_may_be_missing_but_not_of_another_type() -> None:
    """And a number is no text there."""
    column = Column("label", pb.VALUE_TYPE_STRING)
    assert feature_value(column, None, "rows[0]") is None
    assert feature_value(column, "x", "rows[0]") == "x"
    with refused("FEATURE_VALUE_INVALID"):
        feature_value(column, 7.0, "rows[0]")
