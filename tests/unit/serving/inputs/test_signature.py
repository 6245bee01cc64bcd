"""Plain values on their way into a model's columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from google.protobuf import struct_pb2

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY
from ml_platform_server.serving.inputs.rows import decoder, taken
from ml_platform_server.serving.inputs.signature import CoercionError, columns_of
from ml_platform_server.struct_values import INEXACT, to_value
from tests.support.serving import column, fields


def _convert(type_: str, value: object, shape: tuple[int, ...] = ()) -> object:
    (only,) = columns_of(models_pb2.ModelSignature(inputs=[column("x", type_, shape=shape)]))
    return only.convert(value)


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("double", 1.5, 1.5),
        ("double", 3, 3.0),
        ("float", 1.5, 1.5),
        ("long", 12.0, 12),
        ("long", 2**60, 2**60),
        ("integer", -3.0, -3),
        ("long", "1152921504606846976", 2**60),
        ("integer", "-3", -3),
        ("boolean", True, True),
        ("boolean", 1.0, True),
        ("boolean", 0, False),
        ("string", "a", "a"),
        ("datetime", "2024-03-31T12:00:00+02:00", datetime(2024, 3, 31, 10)),  # noqa: DTZ001  # as MLflow's columns have it
        ("datetime", "2024-03-31", datetime(2024, 3, 31)),  # noqa: DTZ001
        ("datetime", datetime(2024, 3, 31, tzinfo=UTC), datetime(2024, 3, 31)),  # noqa: DTZ001
        ("binary", "YWJj", b"abc"),
        ("double", "-1.5e3", -1500.0),
        ("float", "0.5", 0.5),
        ("Array(double)", [1.0, 2, "3", None], [1.0, 2.0, 3.0, None]),
        ("Array(Array(long))", [[1.0], []], [[1], []]),
        ("Array(datetime)", ["2024-03-31"], ["2024-03-31"]),
        ("Map(str -> double)", {"a": 1.0}, {"a": 1.0}),
        ("tensor(int32)", 2.0**31 - 1, 2**31 - 1),
        ("tensor(uint64)", str(2**64 - 1), 2**64 - 1),
        ("tensor(float16)", 65504.0, 65504.0),
        ("tensor(float16)", float("-inf"), float("-inf")),
        ("datetime", "2262-04-11T23:47:16.854775000Z", datetime(2262, 4, 11, 23, 47, 16, 854775)),  # noqa: DTZ001
    ],
)
def test_value_of_its_columns_type_is_taken(type_: str, value: object, expected: object) -> None:
    """A value that fits becomes what the type holds."""
    actual = _convert(type_, value)

    assert expected == actual
    assert type(expected) is type(actual)


@pytest.mark.parametrize(
    ("type_", "value", "told"),
    [
        ("double", "12 ", "expected a number, got text"),
        ("double", "1" + "0" * 64, "expected a number of at most 64 characters, got one of 65"),
        ("double", "1e999", "expected a number within the range of a double"),
        ("double", str(10**400), "expected a number within the range of a double"),
        ("double", str(-(10**309)), "expected a number within the range of a double"),
        ("double", 10**400, "expected a number within the range of a double"),
        ("Array(double)", "[1.0]", "expected a list, got text"),
        ("Array(double)", ["x"], "expected a number, got text"),
        ("tensor(int32)", 2.0**31, "expected a whole number of 32 bits"),
        ("tensor(uint8)", -1.0, "expected a whole number of 8 bits, not negative"),
        ("tensor(float16)", 65505.0, "expected a number within the range of a 16-bit float"),
        ("double", True, "expected a number, got true or false"),
        ("float", 1e300, "expected a number within the range of a 32-bit float"),
        ("long", "12.0", "expected a whole number, got text"),
        ("long", "9" * 19, "expected a whole number of 64 bits"),
        ("long", "9" * 20, "expected a whole number of 64 bits"),
        ("long", "9" * 21, "expected a whole number of 64 bits"),
        ("long", True, "expected a whole number, got true or false"),
        ("long", 1.5, "expected a whole number, got one with a fraction"),
        ("long", float("nan"), "must not be null"),
        ("long", 1e17, f"got a number that {INEXACT}"),
        ("long", -(2.0**53), f"got a number that {INEXACT}"),
        ("integer", 2.0**31, "expected a whole number of 32 bits"),
        ("boolean", 2.0, "expected true or false, got a number"),
        ("boolean", "true", "expected true or false, got text"),
        ("string", 1.0, "expected text, got a number"),
        ("datetime", "yesterday", "expected a time as RFC 3339 has it, like 2024-03-31T12:00:00Z"),
        ("datetime", "0001-01-01T00:00:00+14:00", "expected a time from 1677-09-21 to 2262-04-11"),
        ("datetime", "2300-01-01", "expected a time from 1677-09-21 to 2262-04-11"),
        ("datetime", "2024-01-01T00:00:00.123456789Z", "expected a time to the microsecond"),
        ("binary", "%", "expected bytes as base64"),
    ],
)
def test_value_of_another_type_is_refused(type_: str, value: object, told: str) -> None:
    """A value that does not fit is refused, and the text says what was expected and not what was sent."""
    with pytest.raises(CoercionError) as caught:
        _convert(type_, value)

    assert told == str(caught.value)


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        ((-1,), 2.0, 2.0),
        ((-1, 1), 2.0, [2.0]),
        ((-1, 1), [2.0], [2.0]),
        ((-1, 2, 2), [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]),
        ((-1, -1), [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]),
    ],
)
def test_tensor_takes_one_row_of_its_shape(shape: tuple[int, ...], value: object, expected: object) -> None:
    """A tensor's input is nested lists of its shape without the first dimension, which counts rows."""
    assert expected == _convert("tensor(float32)", value, shape)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1.0], "expected a list of 2, got one of 1"),
        (1.0, "expected lists 1 deep, got a number"),
        (["a", 1.0], "expected a number, got text"),
    ],
)
def test_tensor_of_another_shape_is_refused(value: object, told: str) -> None:
    """Lists of another length or depth, or with other things in them, are refused."""
    with pytest.raises(CoercionError) as caught:
        _convert("tensor(float32)", value, (-1, 2))

    assert told == str(caught.value)


def test_inputs_without_names_get_some() -> None:
    """One input without a name answers to "inputs", several to their places."""
    one = columns_of(models_pb2.ModelSignature(inputs=[column("", "tensor(float32)", shape=[-1, 2])]))
    two = columns_of(models_pb2.ModelSignature(inputs=[column(""), column("")]))

    assert [only.name for only in one] == ["inputs"]
    assert [each.name for each in two] == ["input_0", "input_1"]


def test_nan_is_null_where_it_is_no_value() -> None:
    """NaN for an integer, boolean, text or time is null, as in a pandas column with gaps; a number has NaN as a value."""
    nan = struct_pb2.Value(number_value=float("nan"))
    for kind in ("long", "integer", "boolean", "string", "datetime", "binary"):
        specs = [column("a", kind, required=False), column("b", kind)]
        optional, required = columns_of(models_pb2.ModelSignature(inputs=specs))
        assert taken(optional, nan) is None
        with pytest.raises(CoercionError, match="must not be null"):
            taken(required, nan)
    (number,) = columns_of(models_pb2.ModelSignature(inputs=[column("a", required=False)]))
    assert repr(taken(number, nan)) == "nan"


def test_every_unsuitable_value_is_told_at_once() -> None:
    """A request with several bad values gets one INPUT_INVALID with a violation for each."""
    columns = columns_of(models_pb2.ModelSignature(inputs=[column("amount"), column("hour", "long"), column("city", "string")]))

    with pytest.raises(PlatformError) as caught:
        decoder(columns)(fields(amount="twelve", hour=1.5, city="Paris"), DEFAULT_POLICY)

    assert caught.value.reason == errors_pb2.ERROR_REASON_INPUT_INVALID
    assert caught.value.violations == (
        Violation("inputs.amount", "expected a number, got text"),
        Violation("inputs.hour", "expected a whole number, got one with a fraction"),
    )


def test_null_is_for_optional_columns() -> None:
    """A null is taken for an optional column and refused for a required one; a column not sent is told as missing."""
    columns = columns_of(
        models_pb2.ModelSignature(inputs=[column("a", required=False), column("b"), column("c", required=False)])
    )

    row = decoder(columns)(fields(a=None, b=1.0), DEFAULT_POLICY)
    with pytest.raises(PlatformError) as caught:
        decoder(columns)(fields(a=None, b=None), DEFAULT_POLICY)

    assert (row.values, row.missing) == ([None, 1.0, None], [2])
    assert caught.value.violations == (Violation("inputs.b", "must not be null"),)


@pytest.mark.parametrize("kind", ["double", "float", "long", "integer", "boolean", "string", "datetime", "binary"])
@pytest.mark.parametrize(
    "thing",
    [
        0.0,
        -0.0,
        1.0,
        -3.0,
        2.5,
        2.0**53,
        2.0**54,
        3.5e38,
        float("inf"),
        float("nan"),
        "",
        "a",
        "12",
        "1.5",
        True,
        False,
        None,
        [1.0],
    ],
    ids=repr,
)
def test_the_quick_way_into_a_column_leads_where_the_thorough_one_does(kind, thing):
    """Whatever a Value holds, the decoder of rows gives what the column's own conversion gives, or refuses what that refuses."""
    (column,) = columns_of(models_pb2.ModelSignature(inputs=[models_pb2.ColumnSpec(name="x", type=kind)]))
    value = struct_pb2.Value(number_value=thing) if isinstance(thing, float) else to_value(thing)
    try:
        expected = taken(column, value)
    except CoercionError as error:
        with pytest.raises(PlatformError, match=re.escape(str(error))):
            decoder([column])({"x": value}, DEFAULT_POLICY)
    else:
        (found,) = decoder([column])({"x": value}, DEFAULT_POLICY).values
        assert (type(found), repr(found)) == (type(expected), repr(expected))
