"""Values on their way into Feast's types: what fits, what can be made to fit, and what is refused."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.struct_values import INTEGER_TEXT, LONGEST_NUMBER_TEXT, NUMBER_TEXT, SAFE_INTEGER_LIMIT, json_kind

INT32_END = 2**31
INT64_END = 2**63
LARGEST_FLOAT = 3.4028235677973366e38


def coerce(value: object, value_type: ValueType.ValueType) -> object:
    """The value as the type holds it: "123" and 123.0 are the integer 123, an RFC 3339 text is a point in time.

    Raises:
        ValueError: it does not fit; the text says why and completes "the value ...".
    """
    if value_type == features_pb2.VALUE_TYPE_UNSPECIFIED:  # A type of Feast's that the contract does not know.
        return value
    return _COERCIONS[value_type](value)


def _mismatch(value: object, wanted: str) -> ValueError:
    if isinstance(value, float) and not math.isfinite(value):
        return ValueError(f"is {'NaN' if math.isnan(value) else 'infinity'}, not {wanted}")
    return ValueError(f"is {json_kind(value)}, not {wanted}")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise _mismatch(value, "text")


def _whole(end: int) -> Callable[[object], int]:
    def coerced(value: object) -> int:
        number = _whole_number(value)
        if -end <= number < end:
            return number
        raise ValueError(f"does not fit into {end.bit_length()} bits")

    return coerced


def _whole_number(value: object) -> int:
    if isinstance(value, str) and INTEGER_TEXT.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return exact(value)
    if isinstance(value, float) and math.isfinite(value):
        raise ValueError("is not a whole number")
    raise _mismatch(value, "a whole number")


def exact(value: float) -> int:
    """The whole number that a JSON number stands for.

    Raises:
        ValueError: it is so large that it may stand for a neighbouring one.
    """
    if abs(value) >= SAFE_INTEGER_LIMIT:
        raise ValueError("is too large for a JSON number to be exact; send it as text")
    return int(value)


_BEYOND_DOUBLE = "is a number beyond the range of a double"


def _double(value: object) -> float:
    if isinstance(value, str) and len(value) <= LONGEST_NUMBER_TEXT and NUMBER_TEXT.fullmatch(value):
        number = float(value)
        # Digits that are no double would be stored as infinity.
        if math.isinf(number) and not value.endswith("y"):
            raise ValueError(_BEYOND_DOUBLE)
        return number
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise ValueError(_BEYOND_DOUBLE) from None
    raise _mismatch(value, "a number")


def _float(value: object) -> float:
    number = _double(value)
    if math.isfinite(number) and abs(number) > LARGEST_FLOAT:
        raise ValueError("does not fit into a 32-bit floating-point number")
    return number


def _bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    # As data frames and databases write it, and as predictions take it.
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise _mismatch(value, "true or false")


def _moment(value: object) -> datetime:
    moment = _point_in_time(value)
    if moment.microsecond:
        raise ValueError("has a fraction of a second, and Feast keeps whole seconds; round it")
    return moment


def _point_in_time(value: object) -> datetime:
    try:
        if isinstance(value, datetime):
            # In UTC a time at the ends of the calendar may lie outside of it, and then nobody could read it.
            return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
        if isinstance(value, str):
            return _point_in_time(datetime.fromisoformat(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise ValueError("is not a point in time of the years 1 to 9999, as RFC 3339 text or as seconds since 1970")


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(_text(value), validate=True)
    except (ValueError, binascii.Error):
        raise ValueError("is not base64 text") from None


def _list_of(item: Callable[[object], object]) -> Callable[[object], list[object]]:
    def coerced(value: object) -> list[object]:
        if not isinstance(value, list | tuple):
            raise _mismatch(value, "a list")
        return [item(one) for one in value]

    return coerced


_COERCIONS: Mapping[ValueType.ValueType, Callable[[object], object]] = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_INT32: _whole(INT32_END),
    features_pb2.VALUE_TYPE_INT64: _whole(INT64_END),
    features_pb2.VALUE_TYPE_FLOAT: _float,
    features_pb2.VALUE_TYPE_DOUBLE: _double,
    features_pb2.VALUE_TYPE_BOOL: _bool,
    features_pb2.VALUE_TYPE_TIMESTAMP: _moment,
    features_pb2.VALUE_TYPE_BYTES: _bytes,
    features_pb2.VALUE_TYPE_STRING_LIST: _list_of(_text),
    features_pb2.VALUE_TYPE_INT64_LIST: _list_of(_whole(INT64_END)),
    features_pb2.VALUE_TYPE_FLOAT_LIST: _list_of(_float),
    features_pb2.VALUE_TYPE_DOUBLE_LIST: _list_of(_double),
}
