"""The columns of a model signature and the coercion of plain values to their types."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_platform.v1 import models_pb2
from ml_platform_server.struct_values import (
    INEXACT,
    INTEGER_TEXT,
    LONGEST_NUMBER_TEXT,
    NUMBER_TEXT,
    SAFE_INTEGER_LIMIT,
    json_kind,
)

Convert = Callable[[object], object]

# Maximum number of columns that one error lists: each row of a batch may have such an error.
MOST_NAMED = 50
NULL = "must not be null"
LARGEST_FLOAT = 3.4028234663852886e38
DEFAULT_INPUT_NAME = "inputs"
# The largest number of each floating-point type that is narrower than a double.
LARGEST: Mapping[str, float] = {"float": LARGEST_FLOAT, "float32": LARGEST_FLOAT, "float16": 65504.0}
# The smallest and the largest number of each integer type: MLflow's column types, then tensor types.
RANGES: Mapping[str, tuple[int, int]] = {
    "long": (-(2**63), 2**63 - 1),
    "integer": (-(2**31), 2**31 - 1),
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
# The range of pandas' datetime64[ns], to the microsecond.
_EARLIEST = datetime(1677, 9, 21, 0, 12, 43, 145225)  # noqa: DTZ001  # without a zone, as MLflow's columns have it
_LATEST = datetime(2262, 4, 11, 23, 47, 16, 854775)  # noqa: DTZ001
_NANOSECONDS = re.compile(r"[.,][0-9]{6}[0-9]*[1-9]")
_MOSTINTEGER_TEXT = 309  # of a double
_BEYOND_DOUBLE = "expected a number within the range of a double"


class CoercionError(ValueError):  # internal: callers turn it into a violation
    """A value cannot be coerced to its column's type. The message states what was expected."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Numbers that a model refuses: NaN if `missing` gives a reason, and those beyond `largest`, for the reason in `beyond`."""

    missing: str
    largest: float
    beyond: str


@dataclass(frozen=True, slots=True)
class Column:
    """One input of a model.

    Attributes:
        name: the name; see `columns_of`.
        type: the type in the signature: "long", "Array(double)", "tensor(float32)".
        required: whether null is refused.
        convert: coerces a plain value other than None to the value that runtimes take; raises CoercionError.
        shape: of a tensor: the dimensions after the first, which counts rows; -1 where a length varies.
        refusal: numbers that `convert` refuses although they are of the type.
    """

    name: str
    type: str
    required: bool
    convert: Convert
    shape: tuple[int, ...] = ()
    refusal: Refusal | None = None

    @property
    def holds_nan(self) -> bool:
        """Whether NaN is a value of the column. In any other column NaN means null, as in pandas."""
        return self.type not in _WITHOUT_NAN

    def taken(self, value: object) -> object:
        """Coerce a plain value; None for null. Raises CoercionError."""
        if value is None or (type(value) is float and value != value and not self.holds_nan):  # noqa: PLR0124  # NaN differs
            if self.required:
                raise CoercionError(NULL)
            return None
        return self.convert(value)


def columns_of(signature: models_pb2.ModelSignature) -> tuple[Column, ...]:
    """The columns of a signature, in its order.

    An unnamed input is called "inputs" if it is the only input, else "input_0", "input_1" and so on, by its position.
    """
    specs = signature.inputs
    return tuple(_column(spec, DEFAULT_INPUT_NAME if len(specs) == 1 else f"input_{at}") for at, spec in enumerate(specs))


def _column(spec: models_pb2.ColumnSpec, fallback: str) -> Column:
    name = spec.name or fallback
    if spec.type.startswith("tensor("):
        # The first dimension counts rows; a request has one row.
        shape = tuple(spec.shape[1:])
        element = _element(spec.type.removeprefix("tensor(").removesuffix(")"))
        return Column(name=name, type=spec.type, required=spec.required, convert=_tensor(element, shape), shape=shape)
    return Column(name=name, type=spec.type, required=spec.required, convert=conversion(spec.type))


def number(value: object) -> float:
    """Coerce to a double."""
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise CoercionError(_BEYOND_DOUBLE) from None
    if type(value) is str and len(value) <= LONGEST_NUMBER_TEXT and NUMBER_TEXT.fullmatch(value):
        found = float(value)
        if math.isinf(found) and not value.endswith("y"):
            raise CoercionError(_BEYOND_DOUBLE)
        return found
    if type(value) is str and len(value) > LONGEST_NUMBER_TEXT and _is_whole(value):
        if len(value.lstrip("-0")) > _MOSTINTEGER_TEXT:
            raise CoercionError(_BEYOND_DOUBLE)
        raise CoercionError(f"expected a number of at most {LONGEST_NUMBER_TEXT} characters, got one of {len(value)}")
    raise CoercionError(f"expected a number, got {json_kind(value)}")


def _is_whole(text: str) -> bool:
    return text.isascii() and text.removeprefix("-").isdecimal()


def narrow(largest: float, bits: int) -> Callable[[object], float]:
    """The coercion to a floating-point type narrower than a double, whose largest number is `largest`."""

    def convert(value: object) -> float:
        found = number(value)
        if math.isfinite(found) and abs(found) > largest:
            raise CoercionError(f"expected a number within the range of a {bits}-bit float")
        return found

    return convert


def whole(lowest: int, highest: int) -> Callable[[object], int]:
    """The coercion to integers from `lowest` to `highest`, inclusive."""
    bits = (highest - lowest).bit_length()
    kind = f"expected a whole number of {bits} bits" + ("" if lowest else ", not negative")

    def convert(value: object) -> int:
        if type(value) is float:
            value = _integral(value)
        elif type(value) is str and INTEGER_TEXT.fullmatch(value):
            # Protobuf's JSON encodes 64-bit integers as strings, because a double cannot represent all of them.
            value = int(value)
        if type(value) is str and _is_whole(value):
            raise CoercionError(kind)
        if type(value) is not int:
            raise CoercionError(f"expected a whole number, got {json_kind(value)}")
        if not lowest <= value <= highest:
            raise CoercionError(kind)
        return value

    return convert


def _integral(value: float) -> int:
    if math.isnan(value):
        raise CoercionError(NULL)
    if not value.is_integer():
        raise CoercionError(f"expected a whole number, got {'infinity' if math.isinf(value) else 'one with a fraction'}")
    if abs(value) >= SAFE_INTEGER_LIMIT:
        raise CoercionError(f"got a number that {INEXACT}")
    return int(value)


def truth(value: object) -> bool:
    """Coerce to a boolean. 0 and 1 are accepted, because data frames and databases encode booleans so."""
    if type(value) is bool:
        return value
    if type(value) in (int, float) and value in (0, 1):
        return bool(value)
    raise CoercionError(f"expected true or false, got {json_kind(value)}")


def text(value: object) -> str:
    """Accept a string."""
    if type(value) is not str:
        raise CoercionError(f"expected text, got {json_kind(value)}")
    return value


def moment(value: object) -> datetime:
    """Coerce to a datetime in UTC without a time zone, as MLflow's datetime columns hold it."""
    if type(value) is str:
        if _NANOSECONDS.search(value):
            raise CoercionError("expected a time to the microsecond")
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise CoercionError("expected a time as RFC 3339 has it, like 2024-03-31T12:00:00Z") from None
    if not isinstance(value, datetime):
        raise CoercionError(f"expected a time as text, got {json_kind(value)}")
    try:
        time = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except OverflowError:
        time = datetime.min  # noqa: DTZ901  # out of range: the next line raises
    if not _EARLIEST <= time <= _LATEST:
        raise CoercionError(f"expected a time from {_EARLIEST:%Y-%m-%d} to {_LATEST:%Y-%m-%d}")
    return time


def binary(value: object) -> bytes:
    """Coerce to bytes; requests encode them as base64."""
    if type(value) is bytes:
        return value
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error:
        raise CoercionError("expected bytes as base64") from None


def _anything(value: object) -> object:
    # Maps and objects of MLflow: BentoML checks them.
    return value


CONVERSIONS: dict[str, Convert] = {
    "double": number,
    "float": narrow(LARGEST_FLOAT, 32),
    "long": whole(*RANGES["long"]),
    "integer": whole(*RANGES["integer"]),
    "boolean": truth,
    "string": text,
    "datetime": moment,
    "binary": binary,
}
_WITHOUT_NAN = frozenset(CONVERSIONS) - {"double", "float"}
# Types of list elements that are coerced here. Times and bytes in lists are decoded by BentoML.
_LISTED = frozenset(CONVERSIONS) - {"datetime", "binary"}


def conversion(kind: str) -> Convert:
    """The coercion to one of MLflow's column types, such as "long" or "Array(double)"."""
    if kind.startswith("Array(") and kind.endswith(")"):
        element = kind.removeprefix("Array(").removesuffix(")")
        return _array(conversion(element) if element in _LISTED or element.startswith("Array(") else _anything)
    return CONVERSIONS.get(kind, _anything)


def _array(element: Convert) -> Convert:
    def convert(value: object) -> object:
        if not isinstance(value, list):
            raise CoercionError(f"expected a list, got {json_kind(value)}")
        return [None if item is None else element(item) for item in value]

    return convert


def _element(dtype: str) -> Convert:
    if dtype in RANGES:
        return whole(*RANGES[dtype])
    if dtype in LARGEST:
        return narrow(LARGEST[dtype], 16 if dtype == "float16" else 32)
    if dtype.startswith("float"):
        return number
    if dtype.startswith("bool"):
        return truth
    return text


def _tensor(element: Convert, shape: Sequence[int]) -> Convert:
    """The coercion of one row of a tensor: nested lists of `shape`, -1 where a length varies."""
    scalar_too = not shape or list(shape) == [1]

    def convert(value: object) -> object:
        if not isinstance(value, list) and scalar_too:
            item = element(value)
            return [item] if shape else item
        return _nested(element, value, shape)

    return convert


def _nested(element: Convert, value: object, shape: Sequence[int]) -> object:
    if not shape:
        return element(value)
    if not isinstance(value, list):
        raise CoercionError(f"expected lists {len(shape)} deep, got {json_kind(value)}")
    if shape[0] not in (-1, len(value)):
        raise CoercionError(f"expected a list of {shape[0]}, got one of {len(value)}")
    return [_nested(element, item, shape[1:]) for item in value]
