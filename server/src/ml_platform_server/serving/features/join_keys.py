"""Extracts join keys from the inputs of a request."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf import struct_pb2

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.keys import key_values
from ml_platform_server.backends.feast.online import JoinKey
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.inputs.rows import Fields, unsuitable
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT, plain

# Fast path: returns a valid key value, or None to fall back to the full check, which also produces the violations.
_Quick = Callable[[struct_pb2.Value], object | None]
_INT32_END = 2**31


class JoinKeyExtractor:
    """Extracts a plan's join keys from inputs. Valid values, which almost all requests have, take a fast path.

    Args:
        keys: the plan's join keys.
    """

    def __init__(self, keys: Sequence[JoinKey]) -> None:
        self._keys = [(key.name, _QUICK.get(key.value_type, _thoroughly), key) for key in keys]

    def take(self, fields: Fields) -> dict[str, object] | None:
        """The values of the join keys by name; None if one is absent or null.

        Raises:
            PlatformError: INPUT_INVALID, with a violation for every value that is not of its key's type.
        """
        found: dict[str, object] = {}
        for name, quick, _ in self._keys:
            value = quick(fields[name]) if name in fields else None
            if value is None:
                return self._taken(fields)
            found[name] = value
        return found

    def absent(self, fields: Fields) -> list[str]:
        """The names of the join keys that are absent or null."""
        return [name for name, _, _ in self._keys if name not in fields or plain(fields[name]) is None]

    def _taken(self, fields: Fields) -> dict[str, object] | None:
        if self.absent(fields):
            return None
        found: dict[str, object] = {}
        violations: list[Violation] = []
        for name, _, key in self._keys:
            try:
                found.update(key_values((key,), {name: plain(fields[name])}, "inputs"))
            except PlatformError as error:
                violations += error.violations or [Violation(f"inputs.{name}", error.message)]
        if violations:
            raise unsuitable(
                violations, remedy="Send join keys of the types of their entities (FeatureService.GetFeatureView tells them)."
            )
        return found


def _text(value: struct_pb2.Value) -> object | None:
    return value.string_value or None


def _whole(end: int) -> _Quick:
    def taken(value: struct_pb2.Value) -> object | None:
        number = value.number_value
        # number_value is 0 also for a Value of another kind.
        return int(number) if number and -end < number < end and number.is_integer() else None

    return taken


def _thoroughly(value: struct_pb2.Value) -> object | None:  # noqa: ARG001  # as the others
    return None


_QUICK = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_INT32: _whole(_INT32_END),
    features_pb2.VALUE_TYPE_INT64: _whole(SAFE_INTEGER_LIMIT),
}
