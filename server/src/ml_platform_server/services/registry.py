"""Registers the servicers: finds each method of the contract in its servicer, and puts the chain around it.

gRPC asks for the handler of every call anew, and hands over the call's metadata with the question. So one look by name finds it,
and the call keeps the metadata, which would cost more to read again than everything else before a service.

gRPC reads a unary request before it calls the handler, and a stream's requests only when the handler asks for them; on the wire
both are alike. So a call that may be refused gets the handler of a stream, and nothing of its request is received before its
caller is known.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform_server.call import ANONYMOUS, Call, Metadata, Principal, credentials_in
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import ContractError, Handler, Method, Response, methods_of

Wrap = Callable[[Method, Handler], Handler]

Found = Callable[[Metadata], "grpc.RpcMethodHandler[Any, Any]"]
_Make = Callable[[Metadata, str, Principal], "grpc.RpcMethodHandler[Any, Any]"]

# How gRPC calls the behaviour of a method, by what streams.
_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides, from the metadata alone, whether a call's request is read at once.

    Attributes:
        identify: who calls with an authorization, as far as that is known without waiting.
        allowed: for a method, what finds out whether a principal may call it.
        full: for a method, what finds out whether the server takes no more of its calls.
        admitted: puts the chain around a handler for calls that are let in at once.
        waiting: puts the chain around a handler for all others. It reads the request itself, or refuses the call.
    """

    identify: Callable[[str], Principal | None]
    allowed: Callable[[Method], Callable[[Principal], bool]]
    full: Callable[[Method], Callable[[], bool]]
    admitted: Wrap
    waiting: Wrap


def register(server: grpc.aio.Server, services: Iterable[tuple[ServiceDescriptor, object]], *, admission: Admission) -> None:
    """Offer services on a server.

    Args:
        server: the server, not yet started.
        services: each service of the contract and the object that implements it, its methods named as in the contract.
        admission: decides which calls are let in at once, and puts the chains around a method's handler.

    Raises:
        ContractError: a method declares no scope, or its servicer lacks it.
    """
    found = {
        method.full_name: _found(method, _handler(method, servicer), admission)
        for service, servicer in services
        for method in methods_of(service, getattr(servicer, "SCOPES", {}))
    }
    server.add_generic_rpc_handlers((_Dispatcher(found),))


def register_fallback(server: grpc.aio.Server, *, wrap: Wrap) -> None:
    """Answer every method that does not exist. To be registered last."""
    server.add_generic_rpc_handlers((_Fallback(wrap),))


class _Dispatcher(grpc.GenericRpcHandler):
    def __init__(self, found: Mapping[str, Found]) -> None:
        self._found = found

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = self._found.get(handler_call_details.method)
        return found(handler_call_details.invocation_metadata) if found else None


def _found(method: Method, handle: Handler, admission: Admission) -> Found:
    """What makes the handler of one call of a method."""
    identify, allowed, full = admission.identify, admission.allowed(method), admission.full(method)
    admitted = _maker(method.full_name, admission.admitted(method, handle), (method.client_streaming, method.server_streaming))
    waiting = _maker(method.full_name, _writing(admission.waiting(method, handle)))

    def found(metadata: Metadata) -> grpc.RpcMethodHandler[Any, Any]:
        authorization, correlation_id = credentials_in(metadata)
        principal = identify(authorization)
        if principal is None or full() or not allowed(principal):
            return waiting(metadata, correlation_id, ANONYMOUS)
        return admitted(metadata, correlation_id, principal)

    return found


def _handler(method: Method, servicer: object) -> Handler:
    function = getattr(servicer, method.name, None)
    if not callable(function):
        raise ContractError(f"{type(servicer).__name__} lacks {method.full_name}.")
    return _streaming(method, function) if method.server_streaming else function


def _streaming(method: Method, function: Callable[..., AsyncGenerator[Message | bytes, None]]) -> Handler:
    expected = (bytes, method.response_class)

    async def handle(request: object, call: Call) -> None:
        write = call.context.write
        async with aclosing(function(request, call)) as responses:
            async for response in responses:
                if not isinstance(response, expected):
                    raise TypeError(f"{method.full_name} answered with {type(response).__name__}")
                await write(response)

    return handle


def _writing(handle: Handler) -> Handler:
    """A handler that writes its one response itself, as gRPC wants it of a stream's."""

    async def write(requests: object, call: Call) -> None:
        response = await handle(requests, call)
        if response is not None:
            await call.context.write(response)

    return write


def _maker(name: str, handle: Handler, streams: tuple[bool, bool] = (True, True)) -> _Make:
    """What makes the handler of one call: what all calls share is in the class, what is its own in the object."""
    kind = _KINDS[streams]

    def bind(self: object, metadata: Metadata, correlation_id: str, principal: Principal, method: str = name) -> None:
        # A plain function, not a method: gRPC looks at what it is for every call, and looks longer at methods.
        async def serve(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> Response:
            return await handle(request, Call(method, context, metadata, correlation_id, principal=principal))

        setattr(self, kind, serve)

    shared = {
        "__slots__": (kind,),
        "__init__": bind,
        "request_streaming": streams[0],
        "response_streaming": streams[1],
        # Requests stay bytes here, so that one that cannot be parsed becomes an error of ours.
        "request_deserializer": None,
        "response_serializer": staticmethod(_serialized),
    }
    made: _Make = type("Handler", (grpc.RpcMethodHandler,), shared)
    return made


def _serialized(response: Message | bytes) -> bytes:
    return response if type(response) is bytes else response.SerializeToString()  # type: ignore[union-attr]  # not bytes


class _Fallback(grpc.GenericRpcHandler):
    """Refuses calls of methods that do not exist, all of them through the same handler, and reads nothing of them."""

    def __init__(self, wrap: Wrap) -> None:
        unknown = Method(
            full_name="",
            name="",
            scope=auth_pb2.SCOPE_UNSPECIFIED,
            request_class=Empty,
            response_class=Empty,
            # On the wire this kind is every other kind too.
            client_streaming=True,
            server_streaming=True,
            mutating=False,
        )
        self._make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = _maker("", wrap(unknown, _refuse))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        metadata = handler_call_details.invocation_metadata
        return self._make(metadata, credentials_in(metadata)[1], ANONYMOUS, handler_call_details.method)


async def _refuse(request: object, call: Call) -> Response:  # noqa: ARG001  # nothing is read
    raise PlatformError(
        errors_pb2.ERROR_REASON_UNIMPLEMENTED,
        f"There is no method {call.method[:200]}.",
        remedy="Compare the client's contract with the server's: reflection lists what there is.",
    )
