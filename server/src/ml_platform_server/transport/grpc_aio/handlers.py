"""Registers routes with grpc.aio.

gRPC asks for the handler of every call anew, and hands over the call's metadata with the question. So one look by name finds it,
and the call keeps the metadata, which would cost more to read again than everything else before a service.

gRPC reads a unary request before it calls the handler, and a stream's requests only when the handler asks for them; on the wire
both are alike. So a call that may be refused gets the handler of a stream, and nothing of its request is received before its
caller is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from ml_platform_server.call import ANONYMOUS, Call, CallContext, Metadata, Principal, credentials_in
from ml_platform_server.method import Handler, Response
from ml_platform_server.transport.port import Route

Found = Callable[[Metadata], "grpc.RpcMethodHandler[Any, Any]"]
_Make = Callable[[Metadata, str, Principal], "grpc.RpcMethodHandler[Any, Any]"]

# How gRPC calls the behaviour of a method, by what streams.
_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


def register(server: grpc.aio.Server, routes: Sequence[Route]) -> None:
    """Offer methods on a server that is not yet started."""
    server.add_generic_rpc_handlers((_Dispatcher({route.name: _found(route) for route in routes}),))


def register_fallback(server: grpc.aio.Server, handle: Handler) -> None:
    """Answer every method that does not exist. To be registered last."""
    server.add_generic_rpc_handlers((_Fallback(handle),))


class _Dispatcher(grpc.GenericRpcHandler):
    def __init__(self, found: Mapping[str, Found]) -> None:
        self._found = found

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        found = self._found.get(handler_call_details.method)
        return found(handler_call_details.invocation_metadata) if found else None


def _found(route: Route) -> Found:
    """What makes the handler of one call of a method."""
    admit = route.admit
    admitted = _maker(route.name, route.admitted, (route.client_streaming, route.server_streaming))
    waiting = _maker(route.name, _writing(route.waiting))

    def found(metadata: Metadata) -> grpc.RpcMethodHandler[Any, Any]:
        principal, correlation_id = admit(metadata)
        if principal is None:
            return waiting(metadata, correlation_id, ANONYMOUS)
        return admitted(metadata, correlation_id, principal)

    return found


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
        # A plain function, not a method: gRPC looks at what it is for every call, and looks longer at methods. Its own context is
        # the port's: it takes the port's codes too, as it looks at their value alone.
        async def serve(request: object, context: CallContext) -> Response:
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
    return cast("_Make", type("Handler", (grpc.RpcMethodHandler,), shared))


def _serialized(response: Message | bytes) -> bytes:
    return response if type(response) is bytes else response.SerializeToString()  # type: ignore[union-attr]  # not bytes


class _Fallback(grpc.GenericRpcHandler):
    """Hands calls of every other method to one handler."""

    def __init__(self, handle: Handler) -> None:
        self._make: Callable[..., grpc.RpcMethodHandler[Any, Any]] = _maker("", handle)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        metadata = handler_call_details.invocation_metadata
        return self._make(metadata, credentials_in(metadata)[1], ANONYMOUS, handler_call_details.method)
