"""The routes of the contract's methods: finds each method in its servicer, and puts the chains around it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform_server.call import Call, Metadata, Principal, credentials_in
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import ContractError, Handler, Method, Response, methods_of
from ml_platform_server.transport.port import Admit, Route

Wrap = Callable[[Method, Handler], Handler]


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


def routes_of(services: Iterable[tuple[ServiceDescriptor, object]], *, admission: Admission) -> list[Route]:
    """The routes of some services.

    Args:
        services: each service of the contract and the object that implements it, its methods named as in the contract.
        admission: decides which calls are let in at once, and puts the chains around a method's handler.

    Raises:
        ContractError: a method declares no scope, or its servicer lacks it.
    """
    return [
        _route(method, _handler(method, servicer), admission)
        for service, servicer in services
        for method in methods_of(service, getattr(servicer, "SCOPES", {}))
    ]


def fallback(wrap: Wrap) -> Handler:
    """Refuses calls of methods that do not exist, all of them through the same handler, and reads nothing of them."""
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
    return wrap(unknown, _refuse)


def _route(method: Method, handle: Handler, admission: Admission) -> Route:
    return Route(
        name=method.full_name,
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        admit=_admit(method, admission),
        admitted=admission.admitted(method, handle),
        waiting=admission.waiting(method, handle),
    )


def _admit(method: Method, admission: Admission) -> Admit:
    identify, allowed, full = admission.identify, admission.allowed(method), admission.full(method)

    def admit(metadata: Metadata) -> tuple[Principal | None, str]:
        authorization, correlation_id = credentials_in(metadata)
        principal = identify(authorization)
        if principal is None or full() or not allowed(principal):
            return None, correlation_id
        return principal, correlation_id

    return admit


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


async def _refuse(request: object, call: Call) -> Response:  # noqa: ARG001  # nothing is read
    raise PlatformError(
        errors_pb2.ERROR_REASON_UNIMPLEMENTED,
        f"There is no method {call.method[:200]}.",
        remedy="Compare the client's contract with the server's: reflection lists what there is.",
    )
