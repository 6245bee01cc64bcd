"""What is sent: requests as ghz takes them (each with its length before it), metadata, and descriptors of the contract."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message

from deploy.local.state import write_private


def write(path: Path, messages: Iterable[Message]) -> Path:
    """Write messages that ghz sends one after another, over and over."""
    return write_raw(path, [each.SerializeToString() for each in messages])


def write_raw(path: Path, requests: Iterable[bytes]) -> Path:
    """Write requests that are bytes already."""
    path.write_bytes(b"".join(_varint(len(each)) + each for each in requests))
    return path


def write_metadata(path: Path, metadata: Mapping[str, str]) -> Path:
    """Write the metadata of every call; it holds a key, so it is not given on the command line, which all users may read."""
    write_private(path, json.dumps(metadata))
    return path


def write_descriptors(path: Path, file: FileDescriptor) -> Path:
    """Write the descriptors of a file and of all that it imports."""
    found = descriptor_pb2.FileDescriptorSet()
    _collect(file, found, set())
    path.write_bytes(found.SerializeToString())
    return path


def _collect(file: FileDescriptor, found: descriptor_pb2.FileDescriptorSet, known: set[str]) -> None:
    """Add a file after those that it imports."""
    if file.name in known:
        return
    known.add(file.name)
    for imported in file.dependencies:
        _collect(imported, found, known)
    file.CopyToProto(found.file.add())


def _varint(number: int) -> bytes:
    coded = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte
        coded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*coded, number])
