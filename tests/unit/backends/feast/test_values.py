"""Which values fit which types, and how they look in JSON."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf import json_format, struct_pb2

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.values import coerce
from ml_platform_server.struct_values import plain_fields, to_struct, to_value

MOMENT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
STRING, INT32, INT64 = pb.VALUE_TYPE_STRING, pb.VALUE_TYPE_INT32, pb.VALUE_TYPE_INT64
FLOAT, DOUBLE, BOOL = pb.VALUE_TYPE_FLOAT, pb.VALUE_TYPE_DOUBLE, pb.VALUE_TYPE_BOOL
TIMESTAMP, BYTES = pb.VALUE_TYPE_TIMESTAMP, pb.VALUE_TYPE_BYTES


@pytest.mark.parametrize(
    ("value", "value_type", "expected"),
    [
        ("a", STRING, "a"),
        (123.0, INT64, 123),
        ("123", INT64, 123),
        ("-5", INT32, -5),
        (2**63 - 1, INT64, 2**63 - 1),
        (str(-(2**63)), INT64, -(2**63)),
        (2.0**53 - 1, INT64, 2**53 - 1),
        (2**53, INT64, 2**53),
        (1, DOUBLE, 1.0),
        ("1.5", DOUBLE, 1.5),
        ("-Infinity", FLOAT, -math.inf),
        ("1.5e3", FLOAT, 1500.0),
        (True, BOOL, True),
        (1.0, BOOL, True),
        ("2024-05-06T07:08:09Z", TIMESTAMP, MOMENT),
        ("2024-05-06T09:08:09+02:00", TIMESTAMP, MOMENT),
        (MOMENT.timestamp(), TIMESTAMP, MOMENT),
        (MOMENT.replace(tzinfo=None), TIMESTAMP, MOMENT),
        ("1969-12-31T23:59:59Z", TIMESTAMP, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (-1, TIMESTAMP, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (0.0, TIMESTAMP, datetime(1970, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", TIMESTAMP, datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", TIMESTAMP, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("AAE=", BYTES, b"\x00\x01"),
        (["a"], pb.VALUE_TYPE_STRING_LIST, ["a"]),
        ([1.0, "2"], pb.VALUE_TYPE_INT64_LIST, [1, 2]),
        ([], pb.VALUE_TYPE_DOUBLE_LIST, []),
        ({"any": "thing"}, pb.VALUE_TYPE_UNSPECIFIED, {"any": "thing"}),
    ],
)
def test_what_fits_is_turned_into_its_type(value: object, value_type: pb.ValueType.ValueType, expected: object) -> None:
    """JSON's doubles and texts become what they mean, exactly."""
    coerced = coerce(value, value_type)
    assert (coerced, type(coerced)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "value_type"),
    [
        (1, STRING),
        (1.5, INT64),
        ("1.0", INT64),
        ("", INT64),
        *((text, kind) for text in (" 1", "1 ", "5\n", "+1", "1_000", "٣") for kind in (INT64, INT32, DOUBLE, FLOAT)),
        ("9" * 5000, INT64),
        ("1" * 65, DOUBLE),
        (True, INT64),
        (math.nan, INT64),
        (math.inf, INT64),
        (2.0**53, INT64),
        (-(2.0**53), INT64),
        ([2.0**53], pb.VALUE_TYPE_INT64_LIST),
        (2**63, INT64),
        (2**31, INT32),
        ("much", DOUBLE),
        (True, DOUBLE),
        (1e39, FLOAT),
        (10**400, DOUBLE),
        (2, BOOL),
        ("true", BOOL),
        ("yesterday", TIMESTAMP),
        (True, TIMESTAMP),
        (1e30, TIMESTAMP),
        (math.nan, TIMESTAMP),
        (253_402_300_800, TIMESTAMP),
        ("9999-12-31T23:59:59-01:00", TIMESTAMP),
        ("0001-01-01T00:00:00+01:00", TIMESTAMP),
        ("2024-05-01T12:00:00.75Z", TIMESTAMP),
        (-0.5, TIMESTAMP),
        (MOMENT.replace(microsecond=1), TIMESTAMP),
        ("not base64!", BYTES),
        ("a", pb.VALUE_TYPE_STRING_LIST),
        ([1.5], pb.VALUE_TYPE_INT64_LIST),
        ([None], pb.VALUE_TYPE_STRING_LIST),
        ({"a": 1}, STRING),
    ],
)
def test_what_does_not_fit_is_refused_in_words(value: object, value_type: pb.ValueType.ValueType) -> None:
    """The words complete the sentence 'the value of x ...'."""
    with pytest.raises(ValueError, match=r"^(is|does|has) "):
        coerce(value, value_type)


@pytest.mark.parametrize("value", ["1e400", "-1e400", "9" * 60 + "e300", 10**400])
@pytest.mark.parametrize("value_type", [DOUBLE, FLOAT])
def test_a_number_that_no_double_holds_is_not_stored_as_infinity(value: object, value_type: pb.ValueType.ValueType) -> None:
    """It is out of range; infinity itself, by its name, is a value."""
    with pytest.raises(ValueError, match="beyond the range of a double"):
        coerce(value, value_type)
    assert coerce("-Infinity", value_type) == -math.inf


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (math.nan, None),
        (-math.inf, "-Infinity"),
        ([math.inf, math.nan], ["Infinity", None]),
        (True, True),
        (2**53 - 1, 2.0**53 - 1),
        (2**53, str(2**53)),
        (-(2**53), str(-(2**53))),
        (b"\x00\x01", "AAE="),
        (MOMENT, "2024-05-06T07:08:09Z"),
        (MOMENT.astimezone(timezone(timedelta(hours=2))), "2024-05-06T07:08:09Z"),
        ([1, None, "a"], [1.0, None, "a"]),
        ({"a": {"b": 1}}, {"a": {"b": 1.0}}),
    ],
)
def test_what_json_lacks_becomes_text_or_null(value: object, expected: object) -> None:
    """Nothing loses digits on its way."""
    assert json_format.MessageToDict(to_value(value)) == expected


def test_a_json_object_becomes_plain_values_and_back() -> None:
    """Of every kind that JSON has."""
    fields = {"a": 1.0, "b": "x", "c": None, "d": True, "e": [1.0, {"f": None}], "g": {}}
    assert plain_fields(to_struct(fields)) == fields
    assert plain_fields(struct_pb2.Struct()) == {}


@pytest.mark.parametrize(
    ("value", "value_type", "problem"),
    [
        (7, STRING, "is a number, not text"),
        (math.nan, INT64, "is NaN, not a whole number"),
        (math.inf, INT64, "is infinity, not a whole number"),
        ("seven", DOUBLE, "is text, not a number"),
        ([1], BOOL, "is a list, not true or false"),
        ({}, pb.VALUE_TYPE_STRING_LIST, "is an object, not a list"),
    ],
)
def test_a_refusal_says_what_came_and_what_was_wanted(value: object, value_type: pb.ValueType.ValueType, problem: str) -> None:
    """What a value is may be told; the value itself may be private."""
    with pytest.raises(ValueError, match=f"^{problem}$"):
        coerce(value, value_type)
