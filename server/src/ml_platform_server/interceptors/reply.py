"""Lets an answer pass that is what the contract says and that a message can hold; gRPC would refuse it without a reason."""

from __future__ import annotations

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import Handler, Method, Response

# Clients refuse larger responses unless they are set up otherwise: gRPC's default in every language.
DEFAULT_LIMIT = 4 * 1024 * 1024
# With this a client says how many bytes it takes.
LIMIT_HEADER = "x-max-response-bytes"
# Clients of the Open Inference Protocol are set up for large tensors as they come.
_LIMITED = "/ml_platform."


class Reply:
    """Looks at the answer of a method that gives one.

    A response may have as many bytes as the client takes, so that the client does not refuse it after the work is done.

    Args:
        largest: bytes that any message may have.
        default: bytes that a client takes that does not say so.
    """

    def __init__(self, *, largest: int, default: int = DEFAULT_LIMIT) -> None:
        self._largest = largest
        self._default = min(default, largest)

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        if method.server_streaming:
            return proceed
        largest, expected = self._largest, method.response_class
        usual = self._default if method.full_name.startswith(_LIMITED) else largest

        async def handle(request: object, call: Call) -> Response:
            response = await proceed(request, call)
            # Bytes are a message that its servicer has written itself, because building it costs too much.
            if type(response) is bytes:
                size = len(response)
            elif isinstance(response, expected):
                size = response.ByteSize()
            else:
                raise TypeError(f"{method.full_name} answered with {type(response).__name__}")
            if size > usual and size > (limit := min(largest, max(usual, _accepted(call)))):
                raise _too_large(size, limit)
            return response

        return handle


def _accepted(call: Call) -> int:
    """How many bytes the client says that it takes; 0 if it says nothing of use."""
    said = next((value for key, value in call.metadata if key == LIMIT_HEADER), "")
    return int(said) if isinstance(said, str) and said.isascii() and said.isdecimal() and len(said) < 20 else 0  # noqa: PLR2004


def _too_large(size: int, largest: int) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_REPLY_TOO_LARGE,
        f"The answer has {size:,} bytes, and this call's may have {largest:,}.",
        remedy="Ask for less at once: a smaller page_size, fewer rows, fewer features. A client that takes larger messages says "
        f"so in the metadata '{LIMIT_HEADER}'.",
        metadata={"bytes": str(size), "limit": str(largest)},
    )
