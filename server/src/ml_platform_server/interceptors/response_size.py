"""Checks a response's type and size. gRPC would refuse one that is too large without a reason."""

from __future__ import annotations

from ml_platform_server.call import Call
from ml_platform_server.method import Handler, Method, Response
from ml_platform_server.response_limit import DEFAULT_LIMIT, accepted_bytes, too_large

# Clients of the Open Inference Protocol are set up for large tensors as they come.
_LIMITED = "/ml_platform."


class ResponseSize:
    """Checks the response of a method that has one.

    A response may have as many bytes as the client takes, so that the client does not refuse it after the work is done.

    Args:
        largest: bytes that any message may have.
        default: bytes accepted by a client that sends no limit.
    """

    def __init__(self, *, largest: int, default: int = DEFAULT_LIMIT) -> None:
        self._largest = largest
        self._default = min(default, largest)

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if method.server_streaming:
            return continuation
        largest, expected = self._largest, method.response_class
        usual = self._default if method.full_name.startswith(_LIMITED) else largest

        def limit_of(call: Call) -> int:
            return min(largest, max(usual, accepted_bytes(call.metadata)))

        async def handle(request: object, call: Call) -> Response:
            if method.response_grows:
                call.response_limit = limit_of(call)
            response = await continuation(request, call)
            # Bytes are a message that its servicer has written itself, because building it costs too much.
            if type(response) is bytes:
                size = len(response)
            elif isinstance(response, expected):
                size = response.ByteSize()
            else:
                raise TypeError(f"{method.full_name} answered with {type(response).__name__}")
            if size > usual and size > (limit := limit_of(call)):
                raise too_large(size, limit)
            return response

        return handle
