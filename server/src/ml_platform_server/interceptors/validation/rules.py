"""Compiles the rules that the contract writes beside its fields (validation.proto) into one closure per message type.

What is common to every request needs no rule: an enum's value is one that the contract knows, a Timestamp and a Duration are ones
that exist, and text holds no NUL, which databases refuse, unless it is `data`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ml_platform.v1 import validation_pb2
from ml_platform_server.errors import MOST_VIOLATIONS, Violation
from ml_platform_server.interceptors.validation.field_checks import ValueCheck, compile_value
from ml_platform_server.interceptors.validation.field_order import compile_order

# Appends what is wrong with a message; the text is the path of the message, "" or "feature_view.features[2].".
Check = Callable[[Message, str, list[Violation]], None]


class Rules:
    """The compiled checks, one per message type."""

    def __init__(self) -> None:
        self._checks: dict[str, Check | None] = {}

    def check_for(self, message_class: type[Message]) -> Check | None:
        """The check of a message type and of every message in it, or None if nothing can be wrong."""
        return self._check_for(cast("Descriptor", message_class.DESCRIPTOR))

    def _check_for(self, message: Descriptor) -> Check | None:
        name = message.full_name
        if name not in self._checks:
            # A message that holds itself finds this while it is being compiled, and the finished check when it runs.
            self._checks[name] = lambda *arguments: self._run(name, *arguments)
            self._checks[name] = self._compile(message)
        return self._checks[name]

    def _run(self, name: str, message: Message, path: str, violations: list[Violation]) -> None:
        check = self._checks[name]
        if check is not None:
            check(message, path, violations)

    def _compile(self, message: Descriptor) -> Check | None:
        if message.full_name in _KNOWN:
            return _KNOWN[message.full_name]
        if message.full_name.startswith("google.protobuf."):
            return None
        checks = [check for field in message.fields for check in self._field(field)]
        between: validation_pb2.MessageRules = message.GetOptions().Extensions[validation_pb2.message_rules]
        checks += [compile_order(message, order) for order in between.order]
        if not checks:
            return None

        def check_all(value: Message, path: str, violations: list[Violation]) -> None:
            for check in checks:
                check(value, path, violations)

        return check_all

    def _field(self, field: FieldDescriptor) -> list[Check]:
        rules: validation_pb2.FieldRules = field.GetOptions().Extensions[validation_pb2.rules]
        checks = []
        if rules.required:
            checks.append(_required(field))
        if field.is_repeated:
            items = self._items(field, rules)
            checks += [_max_items(field.name, rules.max_items, items)] if rules.max_items else items
        elif value := self._value(field, rules):
            checks.append(_single(field, value))
        return checks

    def _items(self, field: FieldDescriptor, rules: validation_pb2.FieldRules) -> list[Check]:
        if _is_map(field):
            return self._map(field, rules)
        item = self._value(field, rules)
        return [_each(field.name, item)] if item else []

    def _map(self, field: FieldDescriptor, rules: validation_pb2.FieldRules) -> list[Check]:
        assert field.message_type is not None  # noqa: S101  # a map is a list of entry messages
        entry = field.message_type.fields_by_name
        key_rules = validation_pb2.FieldRules(max_len=rules.max_key_len, visible=rules.visible, required=rules.visible)
        value_rules = validation_pb2.FieldRules()
        value_rules.CopyFrom(rules)
        value_rules.ClearField("visible")
        key = compile_value(entry["key"], key_rules)
        value = self._value(entry["value"], value_rules)
        return [_entries(field.name, key, value)] if key or value else []

    def _value(self, field: FieldDescriptor, rules: validation_pb2.FieldRules) -> ValueCheck | None:
        """The check of one value of a field: of the field itself, or of one item of it."""
        if field.message_type is None:
            return compile_value(field, rules)
        nested = self._check_for(field.message_type)
        if nested is None:
            return None
        return lambda value, path, violations: nested(value, f"{path}.", violations)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _required(field: FieldDescriptor) -> Check:
    name = field.name
    if field.has_presence:

        def check(message: Message, path: str, violations: list[Violation]) -> None:
            if not message.HasField(name):
                violations.append(Violation(f"{path}{name}", "must be set"))
    else:
        text = "must not be empty" if field.is_repeated else "must be set"

        def check(message: Message, path: str, violations: list[Violation]) -> None:
            if not getattr(message, name):
                violations.append(Violation(f"{path}{name}", text))

    return check


def _max_items(name: str, most: int, items: list[Check]) -> Check:
    """The bound on a list's length, and what looks at its items: a list that is too long is not walked through."""

    def check(message: Message, path: str, violations: list[Violation]) -> None:
        count = len(getattr(message, name))
        if count > most:
            violations.append(Violation(f"{path}{name}", f"has {count} items; at most {most} are allowed"))
            return
        for check_items in items:
            check_items(message, path, violations)

    return check


def _single(field: FieldDescriptor, check_value: ValueCheck) -> Check:
    name = field.name
    if field.has_presence:

        def check(message: Message, path: str, violations: list[Violation]) -> None:
            if message.HasField(name):
                check_value(getattr(message, name), f"{path}{name}", violations)
    else:

        def check(message: Message, path: str, violations: list[Violation]) -> None:
            # What is not set has its default, which only `required` forbids; a bound on a number holds for 0 as well.
            check_value(getattr(message, name), f"{path}{name}", violations)

    return check


def _each(name: str, check_value: ValueCheck) -> Check:
    def check(message: Message, path: str, violations: list[Violation]) -> None:
        for index, value in enumerate(getattr(message, name)):
            if len(violations) >= MOST_VIOLATIONS:
                return
            check_value(value, f"{path}{name}[{index}]", violations)

    return check


def _entries(name: str, check_key: ValueCheck | None, check_value: ValueCheck | None) -> Check:
    def check(message: Message, path: str, violations: list[Violation]) -> None:
        entries = getattr(message, name)
        for key in entries:
            if len(violations) >= MOST_VIOLATIONS:
                return
            where = f"{path}{name}[{str(key)[:100]!r}]"
            if check_key:
                check_key(key, where, violations)
            if check_value:
                check_value(entries[key], where, violations)

    return check


def _timestamp(message: Message, path: str, violations: list[Violation]) -> None:
    seconds, nanos = message.seconds, message.nanos  # type: ignore[attr-defined]  # a Timestamp
    if not (_FIRST_SECOND <= seconds <= _LAST_SECOND and 0 <= nanos < _NANOS):
        violations.append(Violation(path.removesuffix("."), "must be a time between the years 1 and 9999"))


def _duration(message: Message, path: str, violations: list[Violation]) -> None:
    seconds, nanos = message.seconds, message.nanos  # type: ignore[attr-defined]  # a Duration
    mixed = (seconds < 0 < nanos) or (nanos < 0 < seconds)
    if mixed or abs(seconds) > _LONGEST or abs(nanos) >= _NANOS:
        violations.append(Violation(path.removesuffix("."), "must be a duration of at most 10,000 years"))


_NANOS = 1_000_000_000
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_LONGEST = 315_576_000_000
_KNOWN: dict[str, Check] = {"google.protobuf.Timestamp": _timestamp, "google.protobuf.Duration": _duration}
