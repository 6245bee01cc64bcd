"""Compares our own options of two versions of the contract: the rules of fields and messages, and the scopes of methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from google.api import field_behavior_pb2
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from ml_platform.v1 import auth_pb2, validation_pb2
from ml_platform.v1.validation_pb2 import FieldRules

PACKAGE = "ml_platform.v1"
# A limit of 0 is none.
_MAXIMA = ("max_len", "max_items", "max_key_len")


def tightened(before: bytes, after: bytes) -> list[str]:
    """What calls that were accepted before are refused for afterwards, one sentence each.

    Args:
        before: the contract as callers know it, a serialized FileDescriptorSet.
        after: the contract as it is to be.
    """
    old, new = _set(before), _set(after)
    known_fields, known_messages = _fields(old), _messages(old)
    found = []
    for name, field in _fields(new).items():
        rules = field.options.Extensions[validation_pb2.rules]
        if (known := known_fields.get(name)) is not None:
            problems = _tighter(known.options.Extensions[validation_pb2.rules], rules)
            found += [f"{name}: {problem}" for problem in problems]
        elif rules.required and name.rpartition(".")[0] in known_messages:
            found.append(f"{name}: is new and required")
    scopes = _scopes(old)
    found += [f"{name}: needs another scope" for name, scope in _scopes(new).items() if scopes.get(name, scope) != scope]
    orders = _orders(old)
    for name, order in _orders(new).items():
        found += [f"{name}: {each} must be in order" for each in sorted(order - orders.get(name, order))]
    return sorted(found)


def unmarked(contract: bytes) -> list[str]:
    """The fields that a rule requires and google.api.field_behavior, which generators read, does not; or the other way round."""
    required = field_behavior_pb2.REQUIRED
    return sorted(
        name
        for name, field in _fields(_set(contract)).items()
        if field.options.Extensions[validation_pb2.rules].required
        != (required in field.options.Extensions[field_behavior_pb2.field_behavior])
    )


def _tighter(old: FieldRules, new: FieldRules) -> Iterator[str]:
    for flag in ("required", "visible"):
        if getattr(new, flag) and not getattr(old, flag):
            yield f"is {flag}"
    for name in _MAXIMA:
        limit, known = getattr(new, name), getattr(old, name)
        if limit and (not known or limit < known):
            yield f"{name} is {limit}, and was {known or 'not limited'}"
    if new.pattern and new.pattern != old.pattern:
        yield f"has another pattern, {new.pattern}"
    if new.HasField("gte") and (not old.HasField("gte") or new.gte > old.gte):
        yield f"is at least {new.gte:g}"
    if new.HasField("lte") and (not old.HasField("lte") or new.lte < old.lte):
        yield f"is at most {new.lte:g}"


def _set(serialized: bytes) -> FileDescriptorSet:
    return FileDescriptorSet.FromString(serialized)


def _messages(files: FileDescriptorSet) -> dict[str, DescriptorProto]:
    found: dict[str, DescriptorProto] = {}
    for file in files.file:
        if file.package == PACKAGE:
            open_ones = [(message.name, message) for message in file.message_type]
            while open_ones:
                name, message = open_ones.pop()
                found[name] = message
                open_ones += [(f"{name}.{nested.name}", nested) for nested in message.nested_type]
    return found


def _fields(files: FileDescriptorSet) -> dict[str, FieldDescriptorProto]:
    return {f"{name}.{field.name}": field for name, message in _messages(files).items() for field in message.field}


def _scopes(files: FileDescriptorSet) -> Mapping[str, int]:
    services = [service for file in files.file if file.package == PACKAGE for service in file.service]
    return {
        f"{service.name}.{method.name}": method.options.Extensions[auth_pb2.scope]
        for service in services
        for method in service.method
    }


def _orders(files: FileDescriptorSet) -> dict[str, set[str]]:
    return {
        name: {f"{order.first} and {order.last}" for order in message.options.Extensions[validation_pb2.message_rules].order}
        for name, message in _messages(files).items()
    }
