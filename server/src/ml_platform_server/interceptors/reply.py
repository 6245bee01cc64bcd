"""Tells a caller whose answer is too large for a message so, before gRPC refuses to send it without a reason."""

from __future__ import annotations

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import Handler, Method, Response


class ReplySize:
    """Lets answers pass that fit into a message.

    Args:
        largest: bytes.
    """

    def __init__(self, *, largest: int) -> None:
        self._largest = largest

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        if method.server_streaming:
            return proceed
        largest = self._largest

        async def handle(request: object, call: Call) -> Response:
            response = await proceed(request, call)
            size = len(response) if type(response) is bytes else response.ByteSize() if response else 0  # type: ignore[union-attr]
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
