"""Lets an answer pass that is what the contract says and that a message can hold; gRPC would refuse it without a reason."""

from __future__ import annotations

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import Handler, Method, Response


class Reply:
    """Looks at the answer of a method that gives one.

    Args:
        largest: bytes that a message may have.
    """

    def __init__(self, *, largest: int) -> None:
        self._largest = largest

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        if method.server_streaming:
            return proceed
        largest, expected = self._largest, method.response_class

        async def handle(request: object, call: Call) -> Response:
            response = await proceed(request, call)
            # Bytes are a message that its servicer has written itself, because building it costs too much.
            if type(response) is bytes:
                size = len(response)
            elif isinstance(response, expected):
                size = response.ByteSize()
            else:
                raise TypeError(f"{method.full_name} answered with {type(response).__name__}")
            if size > largest:
                raise _too_large(size, largest)
            return response

        return handle


def _too_large(size: int, largest: int) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_REPLY_TOO_LARGE,
        f"The answer has {size:,} bytes, and a message may have {largest:,}.",
        remedy="Ask for less at once: a smaller page_size, fewer rows, fewer features.",
        metadata={"bytes": str(size), "limit": str(largest)},
    )
