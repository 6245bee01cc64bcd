"""Compiles the rules of a single value: text, number or enum."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from ml_platform.v1.validation_pb2 import FieldRules
from ml_platform_server.errors import Violation
from ml_platform_server.visible import what_is_wrong

# Appends what is wrong with a value; the text is the path of the value.
ValueCheck = Callable[[Any, str, list[Violation]], None]

_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
}
_DATE_FORM = "YYYY-MM-DD"


def compile_value(field: FieldDescriptor, rules: FieldRules) -> ValueCheck | None:
    """The check of one value of a field that holds no messages, or None if nothing can be wrong with it."""
    if rules.data:
        return None
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(rules, item=bool(field.is_repeated) or _is_key(field))
    if field.enum_type is not None:
        return _enum(field.enum_type)
    if field.cpp_type in _NUMBERS:
        return _number(rules)
    return None


def _is_key(field: FieldDescriptor) -> bool:
    entry = field.containing_type
    return entry is not None and bool(entry.GetOptions().map_entry) and field.name == "key"


def is_date(rules: FieldRules) -> bool:
    """Whether a string is a day. Its rules require the form of one."""
    return _DATE_FORM in rules.pattern_hint


def as_date(text: str) -> date | None:
    """The date that a text writes as YYYY-MM-DD, or None if it writes none."""
    try:
        return date.fromisoformat(text) if len(text) == len(_DATE_FORM) else None
    except ValueError:
        return None


def _text(rules: FieldRules, *, item: bool) -> ValueCheck:
    longest = rules.max_len
    pattern = re.compile(rules.pattern) if rules.pattern else None
    hint = rules.pattern_hint or f"text that matches {rules.pattern}"
    dated, visible = is_date(rules), rules.visible
    # An item of a list and a key of a map are there, so they are not excused for being empty.
    strict = item and (rules.required or rules.visible or pattern is not None)

    def check(value: str, path: str, violations: list[Violation]) -> None:
        if not value:
            if strict:
                violations.append(Violation(path, "must not be empty"))
        elif longest and len(value) > longest:
            violations.append(Violation(path, f"has {len(value)} characters; at most {longest} are allowed"))
        elif "\0" in value:
            violations.append(Violation(path, "must not hold a NUL character"))
        elif pattern is not None and not pattern.fullmatch(value):
            violations.append(Violation(path, f"must be {hint}"))
        elif visible and (wrong := what_is_wrong(value)):
            violations.append(Violation(path, wrong))
        elif dated and as_date(value) is None:
            violations.append(Violation(path, f"is '{value}', a day that does not exist"))

    return check


def _number(rules: FieldRules) -> ValueCheck | None:
    least = rules.gte if rules.HasField("gte") else None
    most = rules.lte if rules.HasField("lte") else None
    if least is None and most is None:
        return None

    def check(value: float, path: str, violations: list[Violation]) -> None:
        # Written so that NaN breaks both rules.
        if least is not None and not value >= least:
            violations.append(Violation(path, f"is {value:.15g}; it must be at least {least:g}"))
        elif most is not None and not value <= most:
            violations.append(Violation(path, f"is {value:.15g}; it must be at most {most:g}"))

    return check


def _enum(enum: EnumDescriptor) -> ValueCheck:
    known = frozenset(enum.values_by_number)
    names = ", ".join(value.name for value in enum.values if value.number)

    def check(value: int, path: str, violations: list[Violation]) -> None:
        if value not in known:
            violations.append(Violation(path, f"is {value}, which is no {enum.name}; there are {names}"))

    return check
