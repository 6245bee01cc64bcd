"""Reads the fields of a message on the wire, without making a message of them."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

from ml_platform_server.varints import CONTINUATION_BIT, read

LENGTH = 2
_VARINT, _FIXED64, _FIXED32 = 0, 1, 5


def fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The fields of a message that stands between two places: of each its number, where its value begins, and where it ends.

    Raises:
        DecodeError: there is no message.
    """
    while at < end:
        # What has one byte is read here: this is done for hundreds of thousands of them.
        tag = data[at]
        tag, at = (tag, at + 1) if tag < CONTINUATION_BIT else read(data, at, end)
        kind, value = tag & 7, at
        if kind == LENGTH:
            if at < end and (size := data[at]) < CONTINUATION_BIT:
                value += 1
            else:
                size, value = read(data, at, end)
            at = value + size
        elif kind == _VARINT:
            at = at + 1 if at < end and data[at] < CONTINUATION_BIT else read(data, at, end)[1]
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise DecodeError("a group, or no field at all")
        if at > end:
            raise DecodeError("a field goes on behind its message")
        yield tag >> 3, value, at
