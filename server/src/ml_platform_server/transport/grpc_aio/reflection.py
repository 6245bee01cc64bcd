"""The files that reflection serves: the contract with its comments, the Open Inference Protocol, and the standard services."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import cast

from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from ml_platform_server import open_inference

_CONTRACT = Path(open_inference.__file__).parents[1] / "contract.binpb"
_V1ALPHA, _V1 = "grpc.reflection.v1alpha", "grpc.reflection.v1"

V1_SERVICE = f"{_V1}.ServerReflection"
"""The same service under its newer name: its messages differ in their package alone."""


class _File:
    """A file as the reflection service of grpcio reads one."""

    def __init__(self, pool: ReflectedPool, proto: FileDescriptorProto) -> None:
        self._pool = pool
        self._proto = proto
        self.name = proto.name

    @property
    def dependencies(self) -> Sequence[FileDescriptor]:
        """The files that it imports."""
        return [self._pool.FindFileByName(name) for name in self._proto.dependency]

    def CopyToProto(self, proto: FileDescriptorProto) -> None:  # noqa: N802  # protobuf's name
        """Copy the file into a message."""
        proto.CopyFrom(self._proto)


class ReflectedPool:
    """Finds the file of a service, a method, a message or an enum in what the server serves; in the default pool for the rest.

    protobuf's own pools know no comments and do not find the file of a method. Everything is read at the first question.
    """

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # protobuf's name
        """The file that defines a symbol; KeyError if there is none."""
        name = self._symbols.get(symbol)
        return self.FindFileByName(name) if name is not None else _in_default_pool(symbol)

    def FindFileByName(self, name: str) -> FileDescriptor:  # noqa: N802  # protobuf's name
        """The file of a name; KeyError if there is none."""
        if name in self._files:
            return cast("FileDescriptor", _File(self, self._files[name]))
        return descriptor_pool.Default().FindFileByName(name)

    def __getattr__(self, name: str) -> object:
        """Everything else is the default pool's."""
        return getattr(descriptor_pool.Default(), name)

    @cached_property
    def _files(self) -> dict[str, FileDescriptorProto]:
        found = {file.name: file for file in FileDescriptorSet.FromString(_CONTRACT.read_bytes()).file}
        for descriptor in (open_inference.SERVICE.file, reflection_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR):
            proto = FileDescriptorProto()
            descriptor.CopyToProto(proto)
            found[proto.name] = proto
        newer = _v1(found[reflection_pb2.DESCRIPTOR.name])
        return {**found, newer.name: newer}

    @cached_property
    def _symbols(self) -> dict[str, str]:
        return {symbol: file.name for file in self._files.values() for symbol in _symbols_of(file)}


def _in_default_pool(symbol: str) -> FileDescriptor:
    try:
        return descriptor_pool.Default().FindFileContainingSymbol(symbol)
    except KeyError:
        service, _, method = symbol.rpartition(".")
        return descriptor_pool.Default().FindServiceByName(service).methods_by_name[method].containing_service.file


def _v1(v1alpha: FileDescriptorProto) -> FileDescriptorProto:
    text = text_format.MessageToString(v1alpha)
    for before, after in ((_V1ALPHA, _V1), (_V1ALPHA.replace(".", "/"), _V1.replace(".", "/"))):
        text = text.replace(before, after)
    return text_format.Parse(text, FileDescriptorProto())


def _symbols_of(file: FileDescriptorProto) -> Iterator[str]:
    package = f"{file.package}." if file.package else ""
    for service in file.service:
        yield f"{package}{service.name}"
        yield from (f"{package}{service.name}.{method.name}" for method in service.method)
    yield from (f"{package}{enum.name}" for enum in file.enum_type)
    yield from (f"{package}{extension.name}" for extension in file.extension)
    for message in file.message_type:
        yield from _symbols_within(message, package)


def _symbols_within(message: DescriptorProto, prefix: str) -> Iterator[str]:
    name = f"{prefix}{message.name}"
    yield name
    yield from (f"{name}.{enum.name}" for enum in message.enum_type)
    for nested in message.nested_type:
        yield from _symbols_within(nested, f"{name}.")
