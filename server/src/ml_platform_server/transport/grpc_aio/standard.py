"""The standard services, health and reflection, which anyone may call: what strangers send to them is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ml_platform_server.inflate import COMPRESSED, inflated
from ml_platform_server.transport.grpc_aio.reflection import V1_SERVICE, ReflectedPool

# gRPC's own classes are generic for type checkers alone.
_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

# Longer than any name of a service or file.
_LARGEST = 4096
# Requests of one peer that are received at once, and how long one may take. What else the peer sends waits.
_AT_ONCE = 4
_SECONDS = 5.0


def register_standard(server: grpc.aio.Server, names: Sequence[str], health_servicer: health.aio.HealthServicer) -> None:
    """Offer health and reflection. Each method has a queue of its own in gRPC, so that they are answered under overload too.

    Args:
        server: the server, not yet started.
        names: the services that reflection lists beside these two.
        health_servicer: the health service.
    """
    taken = _Registered()
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, cast("grpc.Server", taken))
    listed = [*names, health.SERVICE_NAME, reflection.SERVICE_NAME, V1_SERVICE]
    servicer = reflection.aio.ReflectionServicer(listed, pool=ReflectedPool())
    reflection._reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, taken)  # as its own helper
    taken.handlers[V1_SERVICE] = taken.handlers[reflection.SERVICE_NAME]
    reads = _Reads()
    for service, handlers in taken.handlers.items():
        bounded = {name: _bounded(handler, reads) for name, handler in handlers.items()}
        server.add_registered_method_handlers(service, bounded)


@dataclass
class _Registered:
    """Stands for a server and keeps the handlers that are registered on it."""

    handlers: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: the same handlers come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        self.handlers[service] = handlers


class _Reads:
    """Limits the requests that are received at once, per peer."""

    def __init__(self) -> None:
        self._peers: dict[str, tuple[asyncio.Semaphore, list[None]]] = {}

    @asynccontextmanager
    async def of(self, address: str) -> AsyncIterator[None]:
        """Stands around one read of a peer; waits until the peer has fewer of them."""
        peer = address.rpartition(":")[0]
        semaphore, users = self._peers.setdefault(peer, (asyncio.Semaphore(_AT_ONCE), []))
        users.append(None)
        try:
            async with semaphore:
                yield
        finally:
            users.pop()
            if not users:
                self._peers.pop(peer, None)


def _bounded(handler: _Handler, reads: _Reads) -> _Handler:
    """The handler with its requests read here, since gRPC would read those of unary calls at any length."""
    answer: Any = handler.unary_stream or handler.unary_unary

    async def requests(context: _Context) -> AsyncIterator[Message]:
        while (request := await _read(handler, reads, context)) is not None:
            yield request

    async def stream(_: object, context: _Context) -> None:
        responses: Any = handler.stream_stream
        async for response in responses(requests(context), context):
            await context.write(response)

    async def single(_: object, context: _Context) -> None:
        request = await _read(handler, reads, context)
        if request is None:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The call brought no request.")
        response = await answer(request, context)
        if response is not None:
            await context.write(response)

    behaviour: Any = stream if handler.request_streaming else single
    return grpc.stream_stream_rpc_method_handler(behaviour, response_serializer=handler.response_serializer)


async def _read(handler: _Handler, reads: _Reads, context: _Context) -> Message | None:
    """Read the next request; None if there is none."""
    data: Any = None
    try:
        async with reads.of(context.peer()), asyncio.timeout(_SECONDS):
            data = await context.read()
    except TimeoutError:
        await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The request did not come in time.")
    if data is grpc.aio.EOF:
        return None
    data = inflated(data, _LARGEST) if data[:1] in COMPRESSED else data
    if data is None or len(data) > _LARGEST:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"The request has more than {_LARGEST} bytes.")
    parse: Any = handler.request_deserializer
    try:
        request: Message = parse(data)
    except DecodeError:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The request cannot be parsed.")
    return request
