"""Reads the fields of a message on the wire, without making a message of them."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from ml_platform_server.varints import MORE, read

LENGTH = 2
_VARINT, _FIXED64, _FIXED32 = 0, 1, 5


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that stands between two places: of each its number, where its value begins, and where it ends.

    Raises:
        DecodeError: there is no message.
    """
    while at < end:
        tag = data[at]
        # Most have a tag and a length of one byte each: this is done for hundreds of thousands of them.
        if tag & 135 == LENGTH and at + 1 < end and data[at + 1] < MORE:
            value = at + 2
            at = value + data[at + 1]
        else:
            tag, at = read(data, at, end)
            kind, value = tag & 7, at
            if kind == LENGTH:
                size, value = read(data, at, end)
                at = value + size
            elif kind == _VARINT:
                _, at = read(data, at, end)
            elif kind == _FIXED64:
                at += 8
            elif kind == _FIXED32:
                at += 4
            else:
                raise DecodeError("a group, or no field at all")
        if at > end:
            raise DecodeError("a field goes on behind its message")
        yield tag >> 3, value, at
