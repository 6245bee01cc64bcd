"""The join keys among a request's inputs."""

from __future__ import annotations

from collections.abc import Sequence

from ml_platform_server.backends.feast.keys import key_values
from ml_platform_server.backends.feast.online import JoinKey
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.rows import Fields, unsuitable
from ml_platform_server.values import plain


def absent_keys(fields: Fields, keys: Sequence[JoinKey]) -> list[str]:
    """The names of the join keys that the caller did not send, or sent as null."""
    return [key.name for key in keys if key.name not in fields or plain(fields[key.name]) is None]


def taken_keys(fields: Fields, keys: Sequence[JoinKey]) -> dict[str, object]:
    """The join keys' values, by name.

    Raises:
        PlatformError: INPUT_INVALID, with a violation for every value that is not of its key's type.
    """
    found: dict[str, object] = {}
    violations: list[Violation] = []
    for key in keys:
        try:
            found.update(key_values((key,), {key.name: plain(fields[key.name])}, "inputs"))
        except PlatformError as error:
            violations += error.violations or [Violation(f"inputs.{key.name}", error.message)]
    if violations:
        raise unsuitable(
            violations, remedy="Send join keys of the types of their entities (FeatureService.GetFeatureView tells them)."
        )
    return found
