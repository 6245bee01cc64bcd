"""Registers the servicers: finds each method of the contract in its servicer, and puts the chain around it.

gRPC asks for the handler of every call anew, and hands over the call's metadata with the question. So one look by name finds it,
and the call keeps the metadata, which would cost more to read again than everything else before a service.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform_server.call import Call, Metadata
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import ContractError, Handler, Method, Response, methods_of

Wrap = Callable[[Method, Handler], Handler]

Found = Callable[[Metadata], "grpc.RpcMethodHandler[Any, Any]"]

# How gRPC calls the behaviour of a method, by what streams.
_KINDS = {
    (False, False): "unary_unary",
    (False, True): "unary_stream",
    (True, False): "stream_unary",
    (True, True): "stream_stream",
}


def register(server: grpc.aio.Server, services: Iterable[tuple[ServiceDescriptor, object]], *, wrap: Wrap) -> None:
    """Offer services on a server.

    Args:
        server: the server, not yet started.
        services: each service of the contract and the object that implements it, its methods named as in the contract.
        wrap: puts the chain around a method's handler.

    Raises:
        ContractError: a method declares no scope, or its servicer lacks it.
    """
    found = {
        method.full_name: _rpc_handler(method, wrap(method, _handler(method, servicer)))
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


def _rpc_handler(method: Method, handle: Handler) -> Found:
    """What makes the handler of one call of a method: what all its calls share is in the class, what is its own in the object."""
    name = method.full_name

    kind = _KINDS[method.client_streaming, method.server_streaming]

    def bind(self: object, metadata: Metadata) -> None:
        # A plain function, not a method: gRPC looks at what it is for every call, and looks longer at methods.
        async def serve(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> Response:
            return await handle(request, Call(name, context, metadata))

        setattr(self, kind, serve)

    shared = {
        "__slots__": (kind,),
        "__init__": bind,
        "request_streaming": method.client_streaming,
        "response_streaming": method.server_streaming,
        # Requests stay bytes here, so that one that cannot be parsed becomes an error of ours.
        "request_deserializer": None,
        "response_serializer": staticmethod(_serialized),
    }
    found: Found = type("Handler", (grpc.RpcMethodHandler,), shared)
    return found


def _serialized(response: Message | bytes) -> bytes:
    return response if type(response) is bytes else response.SerializeToString()  # type: ignore[union-attr]  # not bytes


class _Fallback(grpc.GenericRpcHandler):
    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        method = Method(
            full_name=handler_call_details.method,
            name=handler_call_details.method.rpartition("/")[2],
            scope=auth_pb2.SCOPE_UNSPECIFIED,
            request_class=Empty,
            response_class=Empty,
            # On the wire this kind is every other kind too.
            client_streaming=True,
            server_streaming=True,
            mutating=False,
        )
        return _rpc_handler(method, self._wrap(method, _refuse(method)))(handler_call_details.invocation_metadata)


def _refuse(method: Method) -> Handler:
    async def handle(request: object, call: Call) -> Response:  # noqa: ARG001  # nothing is read
        raise PlatformError(
            errors_pb2.ERROR_REASON_UNIMPLEMENTED,
            f"There is no method {method.full_name[:200]}.",
            remedy="Compare the client's contract with the server's: reflection lists what there is.",
        )

    return handle
