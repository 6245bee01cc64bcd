"""The join keys among a request's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ml_platform.v1 import features_pb2
from ml_platform_server.errors import Violation
from ml_platform_server.serving.columns import Unsuitable, binary, moment, number, text, truth, whole
from ml_platform_server.serving.rows import Fields, unsuitable
from ml_platform_server.serving.values import plain

if TYPE_CHECKING:
    from ml_platform_server.backends.feast.online import JoinKey


def absent_keys(fields: Fields, keys: Sequence[JoinKey]) -> list[str]:
    """The names of the join keys that the caller did not send."""
    return [key.name for key in keys if key.name not in fields]


def taken_keys(fields: Fields, keys: Sequence[JoinKey]) -> dict[str, object]:
    """The join keys' values, by name.

    Raises:
        PlatformError: INPUT_INVALID for values that are not of their key's type.
    """
    found: dict[str, object] = {}
    violations: list[Violation] = []
    for key in keys:
        try:
            found[key.name] = _KEYS.get(key.value_type, text)(plain(fields[key.name]))
        except Unsuitable as error:
            violations.append(Violation(f"inputs.{key.name}", str(error)))
    if violations:
        raise unsuitable(violations)
    return found


def _whole_or_digits(bits: int) -> Callable[[object], int]:
    """A whole number, or one written as text: JSON numbers cannot carry every 64-bit key."""
    convert = whole(bits)

    def key(value: object) -> int:
        if type(value) is str:
            digits = value.removeprefix("-")
            if digits.isascii() and digits.isdigit() and len(digits) <= len(str(2**63)):
                value = int(value)
        return convert(value)

    return key


_KEYS: dict[int, Callable[[object], object]] = {
    features_pb2.VALUE_TYPE_STRING: text,
    features_pb2.VALUE_TYPE_INT32: _whole_or_digits(32),
    features_pb2.VALUE_TYPE_INT64: _whole_or_digits(64),
    features_pb2.VALUE_TYPE_FLOAT: number,
    features_pb2.VALUE_TYPE_DOUBLE: number,
    features_pb2.VALUE_TYPE_BOOL: truth,
    features_pb2.VALUE_TYPE_TIMESTAMP: moment,
    features_pb2.VALUE_TYPE_BYTES: binary,
}
