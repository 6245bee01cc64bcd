"""Remembers what was found good, where callers send the same few names again and again and each look costs a prediction."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation.rules import Check

# More than any caller's models in every environment; then all are forgotten.
MOST = 1000
# Messages that hold what has no rules: a model's inputs.
_FREE = frozenset({"google.protobuf.Struct", "google.protobuf.Value"})


def remembering(check: Check, message: type[Message]) -> Check:
    """A check that looks at the same values only once, as long as they are good; the check itself where that cannot be.

    Args:
        check: looks at a message of the type.
        message: the type. What its rules are about must be single values; then these say all that there is to look at.
    """
    values = _values_of(cast("Descriptor", message.DESCRIPTOR))
    if values is None:
        return check
    good: set[object] = set()

    def remembered(value: Message, path: str, violations: list[Violation]) -> None:
        found = values(value)
        if found in good:
            return
        before = len(violations)
        check(value, path, violations)
        if len(violations) == before:
            if len(good) >= MOST:
                good.clear()
            good.add(found)

    return remembered


def _values_of(message: Descriptor) -> Callable[[Message], Any] | None:
    names = []
    for field in message.fields:
        if field.message_type is not None and field.message_type.full_name in _FREE and not field.is_repeated:
            continue
        if field.message_type is not None or field.is_repeated or field.has_presence:
            return None
        names.append(field.name)
    return attrgetter(*names) if names else None
