"""Writes google.protobuf.Value and Struct as they are on the wire, straight from plain things.

Building the messages first takes three times as long, and a prediction's reply is made of little else. The wire format is that of
protobuf's encoding specification; a test holds what is written here against what protobuf itself writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct

from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT, to_value

NULL = b"\x08\x00"
TRUE = b"\x20\x01"
FALSE = b"\x20\x00"
_number = Struct("<cd").pack
_LENGTHS = [bytes((length,)) for length in range(128)]


# What is no number in JSON: NaN and infinity.
_NOT_FINITE = {"nan": NULL, "inf": b"\x1a\x08Infinity", "-inf": b"\x1a\x09-Infinity"}


def length(size: int) -> bytes:
    """A length, or any other whole number from 0, as a varint."""
    if size < 128:  # noqa: PLR2004  # seven bits
        return _LENGTHS[size]
    return bytes((size & 0x7F | 0x80,)) + length(size >> 7)


def field(tag: bytes, content: bytes) -> bytes:
    """A length-delimited field: a message, a string, bytes."""
    return tag + length(len(content)) + content


def double(tag: bytes, number: float) -> bytes:
    """A field that is a double."""
    return _number(tag, number)


def value(thing: object) -> bytes:  # noqa: PLR0911  # one for each kind of Value
    """A Value that holds a plain thing, as `values.to_value` makes it."""
    kind = type(thing)
    if kind is float:
        return _number(b"\x11", thing) if thing - thing == 0 else _NOT_FINITE[str(thing)]  # type: ignore[operator]  # a float
    if kind is int and -SAFE_INTEGER_LIMIT < thing < SAFE_INTEGER_LIMIT:  # type: ignore[operator]  # an int
        return _number(b"\x11", thing)
    if kind is str:
        return field(b"\x1a", thing.encode())  # type: ignore[attr-defined]  # a str
    if kind is list:
        return field(b"\x32", b"".join([field(b"\x0a", value(item)) for item in thing]))  # type: ignore[attr-defined]  # a list
    if kind is bool:
        return TRUE if thing else FALSE
    if thing is None:
        return NULL
    if kind is dict:
        return field(b"\x2a", struct(thing))  # type: ignore[arg-type]  # a dict
    return to_value(thing).SerializeToString()


def struct(things: Mapping[str, object]) -> bytes:
    """A Struct that holds plain things by name."""
    return b"".join([field(b"\x0a", _key(str(name)) + field(b"\x12", value(thing))) for name, thing in things.items()])


@lru_cache(4096)
def _key(name: str) -> bytes:
    return field(b"\x0a", name.encode())
