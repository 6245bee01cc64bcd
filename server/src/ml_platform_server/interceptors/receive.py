"""Reads the request of a call that was admitted only after its handler had begun."""

from __future__ import annotations

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import UNAUTHENTICATED, Handler, Method, Response


class Receive:
    """Stands behind the authentication, so that a stranger's request is neither received nor inflated.

    gRPC reads the one request of a unary call before it calls the handler, but not the requests of a stream. On the wire both are
    alike. So such a call gets the handler of a stream, and its request is read here. Open methods take empty requests: theirs are
    never read.
    """

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if method.client_streaming:
            return continuation
        if method.scope == UNAUTHENTICATED:

            async def empty(request: object, call: Call) -> Response:  # noqa: ARG001  # it is not read
                return await continuation(b"", call)

            return empty

        async def handle(request: object, call: Call) -> Response:  # noqa: ARG001  # a stream; its first message is the request
            message = await call.context.read()
            if not isinstance(message, bytes):
                raise _no_message(method)
            return await continuation(message, call)

        return handle


def _no_message(method: Method) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"The call brought no {method.request_class.DESCRIPTOR.name}.",
        remedy="Send one message, which may be empty.",
    )
