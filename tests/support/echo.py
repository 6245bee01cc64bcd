"""A small contract for tests of the server's frame: one method of each kind, each answering with what it was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from ml_platform.v1 import auth_pb2, validation_pb2
from ml_platform_server.call import Call

_POOL = descriptor_pool.Default()
_FIELD = descriptor_pb2.FieldDescriptorProto
NAME = "tests.echo.v1.EchoService"
KINDS = {"Unary": (False, False), "ServerStream": (False, True), "ClientStream": (True, False), "Both": (True, True)}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="tests/echo/v1/echo.proto", package="tests.echo.v1", syntax="proto3")
    file.dependency.extend(["ml_platform/v1/auth.proto", "ml_platform/v1/validation.proto"])
    message = file.message_type.add(name="Echo")
    text = message.field.add(name="text", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    text.options.Extensions[validation_pb2.rules].max_len = 10
    message.field.add(name="request_id", number=2, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    service = file.service.add(name="EchoService")
    for name, (client, server) in KINDS.items():
        method = service.method.add(name=name, client_streaming=client, server_streaming=server)
        method.input_type = method.output_type = ".tests.echo.v1.Echo"
        method.options.Extensions[auth_pb2.scope] = auth_pb2.SCOPE_PLATFORM_READ
    unscoped = file.service.add(name="UnscopedService")
    unscoped.method.add(name="Open", input_type=".tests.echo.v1.Echo", output_type=".tests.echo.v1.Echo")
    return file


_POOL.AddSerializedFile(_file().SerializeToString())
ECHO: ServiceDescriptor = _POOL.FindServiceByName(NAME)
UNSCOPED: ServiceDescriptor = _POOL.FindServiceByName("tests.echo.v1.UnscopedService")
Echo: Any = GetMessageClass(_POOL.FindMessageTypeByName("tests.echo.v1.Echo"))


class EchoService:
    """Answers with what it was sent, or does what the text says: "raise", "wrong" (a wrong type), "cancel", "wait"."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.waiting = asyncio.Event()
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()
        self.failure: Exception = RuntimeError("secret detail")

    async def Unary(self, request: Any, call: Call) -> Any:  # noqa: N802  # named as in the contract
        self.calls.append(call)
        return await self._do(request)

    async def ServerStream(self, request: Any, call: Call) -> AsyncIterator[Any]:  # noqa: N802  # the same
        self.calls.append(call)
        try:
            yield request
            yield await self._do(request)
        finally:
            self.left.set()

    async def ClientStream(self, requests: AsyncIterator[Any], call: Call) -> Any:  # noqa: N802  # the same
        self.calls.append(call)
        texts = [(await self._do(request)).text async for request in requests]
        return Echo(text="".join(texts))

    async def Both(self, requests: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:  # noqa: N802  # the same
        self.calls.append(call)
        async for request in requests:
            yield await self._do(request)

    async def _do(self, request: Any) -> Any:
        match request.text:
            case "raise":
                raise self.failure
            case "wrong":
                return "a string"
            case "cancel":
                raise asyncio.CancelledError
            case "wait":
                self.waiting.set()
                try:
                    await self.go_on.wait()
                except asyncio.CancelledError:
                    self.left.set()
                    raise
        return request


class EchoClient:
    """Calls the echo service in all its kinds, with the same arguments and results for each."""

    def __init__(self, channel: grpc.aio.Channel, *, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self.channel = channel
        self.metadata = metadata

    def start(self, kind: str, *requests: Any, metadata: Any = None, timeout: float | None = 5.0) -> Any:
        """Start a call of a kind and return grpc's call object. Requests may be messages or raw bytes."""
        client, server = KINDS[kind]
        shape = f"{'stream' if client else 'unary'}_{'stream' if server else 'unary'}"
        method = getattr(self.channel, shape)(
            f"/{NAME}/{kind}", request_serializer=_serialized, response_deserializer=Echo.FromString
        )
        metadata = self.metadata if metadata is None else metadata
        return method(iter(requests) if client else requests[0], metadata=metadata, timeout=timeout)

    async def call(self, kind: str, *requests: Any, **options: Any) -> list[str]:
        """Call a kind and return the text of every response."""
        call = self.start(kind, *requests, **options)
        if KINDS[kind][1]:
            return [response.text async for response in call]
        return [(await call).text]


def _serialized(request: Any) -> bytes:
    return request if isinstance(request, bytes) else bytes(request.SerializeToString())
