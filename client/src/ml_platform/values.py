"""Between Python values and the well-known protobuf types: Struct, Value, Timestamp, Duration, enum numbers."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value

from ml_platform.errors import invalid
from ml_platform.frames import as_mapping

M = TypeVar("M", bound=Message)
E = TypeVar("E")
N = TypeVar("N", bound=int)

# A Struct holds numbers as doubles: from here on, an integer may arrive as its neighbour.
EXACT_INTEGERS = 2**53
# protobuf reads messages 100 levels deep, and each level of a Struct is three.
MAX_DEPTH = 30
# Of the largest integer of 64 bits.
MAX_DIGITS = 19
_INTEGER = re.compile(r"-?[0-9]{16,20}")
_INFINITE = ("Infinity", "-Infinity")
NO_UNICODE = "a text or a name is no valid Unicode: it holds half of a surrogate pair"
NOT_FINITE = (*_INFINITE, "NaN")


def build(message_class: type[M], **fields: object) -> M:
    """Make a request; None leaves a field out. A value of the wrong type is an InvalidArgument that names the field."""
    message = message_class()
    for name, value in fields.items():
        if value is None:
            continue
        try:
            message.MergeFrom(message_class(**{name: value}))
        except (TypeError, ValueError) as error:
            raise invalid(name, f"{value!r} is not of the type this field has") from error
    return message


def to_version(value: object, field: str) -> int:
    """A version: a whole number from 1, or digits, as MLflow writes versions."""
    if isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS:
        value = int(value)
    return to_number(value, field)


def is_flag(value: object) -> bool:
    """Whether a value is True or False, NumPy's too; that of NumPy 1 is called bool_."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def to_flag(value: object, field: str) -> bool:
    """True or False, NumPy's too."""
    if is_flag(value):
        return bool(value)
    raise invalid(field, f"{value!r} is not True or False")


def to_number(value: object, field: str) -> int:
    """A whole number from 1: any integer, NumPy's too."""
    number = to_integer(value)
    if number is None or number < 1:
        raise invalid(field, f"{value!r} is not a whole number from 1")
    return number


def to_integer(value: object) -> int | None:
    """An integer of any library as Python's own; None for what is none. True and False are none."""
    if is_flag(value):
        return None
    try:
        return operator.index(value)  # type: ignore[arg-type]  # what is no integer is what is looked for
    except TypeError:
        return None


def choice(name: str, choices: Mapping[str, N], field: str) -> N:
    """What a name in any case stands for; `field` names it in errors."""
    chosen = choices.get(name.strip().lower()) if isinstance(name, str) else None
    if chosen is None:
        raise invalid(field, f"{name!r} is not one of {', '.join(map(repr, choices))}")
    return chosen


def to_struct(values: Mapping[str, Any], field: str) -> Struct:
    """Make a Struct of a mapping; `field` names it in errors."""
    struct = Struct()
    try:
        struct.update(_jsonable(as_mapping(values, field), field, MAX_DEPTH))
    except UnicodeEncodeError:
        raise invalid(field, NO_UNICODE) from None
    return struct


def to_params(params: Mapping[str, Any] | None) -> Struct | None:
    """Make a Struct of a model's params; None if there are none."""
    struct = None if params is None else to_struct(params, "params")
    return struct if struct is not None and struct.fields else None


def from_struct(struct: Struct) -> dict[str, Any]:
    """Make a dictionary of a Struct. Numbers without a fraction arrive as integers."""
    return {name: from_value(value) for name, value in struct.fields.items()}


def from_value(value: Value) -> Any:  # noqa: ANN401  # whatever a Value can hold
    """Make a Python value. Numbers without a fraction arrive as integers."""
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [from_value(item) for item in value.list_value.values]
    return None if kind in {None, "null_value"} else getattr(value, str(kind))


def from_output(value: Value, *, integer: bool, numbers: Collection[str] = ()) -> Any:  # noqa: ANN401  # whatever a model gives
    """Make a Python value of a model's output.

    Of an integer output, texts are integers from 2^53 on; other numbers are float. Those texts that are in `numbers` are, too.
    """
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        return int(number) if integer and number.is_integer() else number
    if kind == "string_value":
        text = value.string_value
        if text in numbers:
            return float(text)
        return int(text) if integer and _INTEGER.fullmatch(text) else text
    if kind == "list_value":
        return [from_output(item, integer=integer, numbers=numbers) for item in value.list_value.values]
    if kind == "struct_value":
        found = value.struct_value.fields.items()
        return {name: from_output(item, integer=integer, numbers=numbers) for name, item in found}
    return from_value(value)


def infinities(named: bool) -> Collection[str]:  # what it is asked about
    """The texts that are numbers in an output, if it is named as one that holds infinity."""
    return _INFINITE if named else ()


def to_datetime(message: Message, field: str) -> datetime | None:
    """A timestamp field as a datetime in UTC; None if it is not set."""
    if not message.HasField(field):
        return None
    moment: datetime = getattr(message, field).ToDatetime(tzinfo=UTC)
    return moment


def enum_name(name_of: Callable[[E], str], number: E, prefix: str) -> str:
    """An enum's value as a lower-case word: JOB_STATE_RUNNING is "running". A value newer than this client is its number."""
    try:
        return name_of(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)


def is_missing(value: object) -> bool:
    """Whether a value is one of the ways to say that there is none: None, NaN, pandas' NaT and NA."""
    if value is None or type(value).__name__ == "NAType":
        return True
    return isinstance(value, (float, datetime)) and value != value  # noqa: PLR0124  # NaN and NaT are the ones that differ


def _jsonable(value: object, field: str, depth: int) -> Any:  # noqa: ANN401  # whatever JSON can hold
    if depth < 0:
        raise invalid(field, f"values are nested more than {MAX_DEPTH} levels deep, or contain themselves")
    if isinstance(value, Mapping):
        named = {str(key): _jsonable(item, f"{field}.{key}", depth - 1) for key, item in value.items()}
        if len(named) < len(value):
            raise invalid(field, "two names are the same as text")
        return named
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_jsonable(item, field, depth - 1) for item in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        # As base64 they would be text like any other, and a column of strings would take it for its own.
        raise invalid(field, "bytes cannot be sent; send text, or base64.b64encode(value).decode() for a column of bytes")
    # NumPy's arrays and scalars, pandas' series: asked by name, so that neither needs to be imported.
    tolist: Any = getattr(value, "tolist", None)
    if callable(tolist):
        kind = getattr(getattr(value, "dtype", None), "kind", "")
        if kind in {"m", "M"}:
            return _jsonable(_times(value, kind, field), field, depth - 1)
        listed: Any = tolist()
        if type(listed).__name__ == "longdouble":  # It stays what it is.
            return float(listed)
        return _jsonable(listed, field, depth - 1)
    return _scalar(value, field)


def _times(value: Any, kind: str, field: str) -> object:  # noqa: ANN401  # NumPy's and pandas' times and spans
    """Times of NumPy as Python's own; of nanoseconds `tolist` would make plain numbers."""
    if kind == "m":
        raise invalid(field, "a span of time cannot be sent; send it as a number of the unit that the model was trained with")
    if getattr(value, "ndim", 0):
        return list(value)
    moment = value.astype("datetime64[us]")
    if moment != value and value == value:  # noqa: PLR0124  # NaT differs from itself
        raise invalid(field, "a time finer than microseconds cannot be sent")
    return moment.tolist()


def _scalar(value: object, field: str) -> bool | str | int | float | None:
    if isinstance(value, Enum):
        return _scalar(value.value, field)
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        # As protobuf's own JSON writes int64: the server reads digits in a string where it expects an integer.
        return value if abs(value) < EXACT_INTEGERS else _digits(value, field)
    if isinstance(value, float):
        return value
    return _other_scalar(value, field)


def _other_scalar(value: object, field: str) -> str | float | None:
    if is_missing(value):
        return None
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        if value.is_snan():
            return float("nan")
        whole = value.is_finite() and abs(value) >= EXACT_INTEGERS and value == value.to_integral_value()
        return _scalar(int(value) if whole else float(value), field)
    if isinstance(value, UUID):
        return str(value)
    raise invalid(field, f"a value of type {type(value).__name__} cannot be sent")


def _digits(number: int, field: str) -> str:
    try:
        return str(number)
    except ValueError:  # Python writes no more than some thousand digits.
        raise invalid(field, "an integer has too many digits") from None
