"""Compiles the rule that one field of a message must not come after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from ml_platform.v1 import validation_pb2
from ml_platform.v1.validation_pb2 import FieldOrder
from ml_platform_server.errors import Violation
from ml_platform_server.interceptors.validation.field_checks import as_date, is_date
from ml_platform_server.method import ContractError

# Reads a field as something that compares, or None if it is not set or makes no sense; then its own rules speak.
_Read = Callable[[Message], Any]


def compile_order(message: Descriptor, order: FieldOrder) -> Callable[[Message, str, list[Violation]], None]:
    """The check that two fields of a message stand in order when both are set.

    Raises:
        ContractError: the rule names a field that is not there or does not compare.
    """
    first, last = _reader(message, order.first), _reader(message, order.last)
    text = f"must not be before {order.first}" if order.allow_equal else f"must be after {order.first}"

    def check(value: Message, path: str, violations: list[Violation]) -> None:
        start, end = first(value), last(value)
        if start is None or end is None:
            return
        if end < start or (end == start and not order.allow_equal):
            violations.append(Violation(f"{path}{order.last}", text))

    return check


def _reader(message: Descriptor, name: str) -> _Read:
    field = message.fields_by_name.get(name)
    if field is None or field.is_repeated:
        raise ContractError(f"{message.full_name} has an order rule for {name}, which is no single field of it.")
    if field.type == FieldDescriptor.TYPE_STRING:
        if not is_date(field.GetOptions().Extensions[validation_pb2.rules]):
            raise ContractError(f"{message.full_name}.{name} compares as a date, so its pattern_hint must name YYYY-MM-DD.")
        return lambda value: as_date(getattr(value, name))
    if field.message_type is None:
        present = field.has_presence
        return lambda value: getattr(value, name) if not present or value.HasField(name) else None
    if field.message_type.full_name != "google.protobuf.Timestamp":
        raise ContractError(f"{message.full_name}.{name} does not compare.")
    return lambda value: _moment(value, name)


def _moment(message: Message, name: str) -> tuple[int, int] | None:
    if not message.HasField(name):
        return None
    moment = getattr(message, name)
    return moment.seconds, moment.nanos
