"""Turns the bytes of a request into a message that keeps the contract's rules; the rules themselves are compiled in rules.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

from google.protobuf.message import DecodeError, Message

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.interceptors.remembered import remembering
from ml_platform_server.interceptors.rules import Check, Rules
from ml_platform_server.method import Handler, Method, Response


class Validation:
    """Parses and checks every request, each message of a stream of them included.

    It comes after the authentication: a stranger's bytes are not worth parsing.
    """

    def __init__(self) -> None:
        self._rules = Rules()

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        check = self._rules.check_for(method.request_class)
        if method.client_streaming:
            return self._stream(method, check, proceed)
        if check is not None and method.batched:
            check = remembering(check, method.request_class)
        return self._unary(method, check, proceed)

    def _unary(self, method: Method, check: Check | None, proceed: Handler) -> Handler:
        def handle(request: bytes, call: Call) -> Awaitable[Response]:
            return proceed(_read(method, check, request), call)

        return handle

    def _stream(self, method: Method, check: Check | None, proceed: Handler) -> Handler:
        async def messages(requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
            async for request in requests:
                yield _read(method, check, request)

        async def handle(requests: AsyncIterator[bytes], call: Call) -> Response:
            return await proceed(messages(requests), call)

        return handle


def _read(method: Method, check: Check | None, data: bytes) -> Message:
    try:
        message = method.request_class.FromString(data)
    except DecodeError:
        raise PlatformError(
            errors_pb2.ERROR_REASON_INVALID_FIELDS,
            f"The request is no {method.request_class.DESCRIPTOR.name}: its bytes cannot be parsed.",
            remedy="Send the message that the contract names; text in it is UTF-8.",
        ) from None
    if check is not None:
        violations: list[Violation] = []
        check(message, "", violations)
        if violations:
            raise _invalid(violations)
    return message


def _invalid(violations: list[Violation]) -> PlatformError:
    told = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
    more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""  # noqa: PLR2004  # as many as are told
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"{told}{more}.",
        remedy="Correct the field and call again." if len(violations) == 1 else "Correct the fields and call again.",
        violations=violations,
    )
