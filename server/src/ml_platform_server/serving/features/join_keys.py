"""The join keys among a request's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf import struct_pb2

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.keys import key_values
from ml_platform_server.backends.feast.online import JoinKey
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.inputs.rows import Fields, unsuitable
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT, plain

# Takes a key that is as it should be; None leaves it to the thorough way, which also knows what is wrong with it.
_Quick = Callable[[struct_pb2.Value], object | None]
_INT32_END = 2**31


class JoinKeyExtractor:
    """Takes a plan's join keys out of the inputs. Almost all requests bring them as they should be, which costs little.

    Args:
        keys: the plan's join keys.
    """

    def __init__(self, keys: Sequence[JoinKey]) -> None:
        self._keys = [(key.name, _QUICK.get(key.value_type, _thoroughly), key) for key in keys]

    def take(self, fields: Fields) -> dict[str, object] | None:
        """The join keys' values by name; None if the caller left one out, or sent it as null.

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
        """The names of the join keys that the caller did not send, or sent as null."""
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
        # 0 is what a value that holds no number says too.
        return int(number) if number and -end < number < end and number.is_integer() else None

    return taken


def _thoroughly(value: struct_pb2.Value) -> object | None:  # noqa: ARG001  # as the others
    return None


_QUICK = {
    features_pb2.VALUE_TYPE_STRING: _text,
    features_pb2.VALUE_TYPE_INT32: _whole(_INT32_END),
    features_pb2.VALUE_TYPE_INT64: _whole(SAFE_INTEGER_LIMIT),
}
