"""Turns the bytes of a request into a message that keeps the contract's rules; the rules themselves are compiled in rules.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

from google.protobuf.message import DecodeError, Message

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.inflate import COMPRESSED, inflated_in_thread
from ml_platform_server.interceptors.validation.cached_validation import remembering
from ml_platform_server.interceptors.validation.large_in_flight import LargeInFlight
from ml_platform_server.interceptors.validation.large_requests import LARGE, LargeRequests
from ml_platform_server.interceptors.validation.rules import Check, Rules
from ml_platform_server.method import Handler, Method, Response


class Validation:
    """Parses and checks every request, each message of a stream of them included.

    It comes after the authentication: a stranger's bytes are not worth parsing.

    Args:
        largest: bytes that a message of any method may have.
        most_bytes: bytes of large requests at once.
    """

    def __init__(self, *, largest: int, most_bytes: int) -> None:
        self._rules = Rules()
        self._largest = largest
        self._in_flight = LargeInFlight(most_bytes=most_bytes)

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        check = self._rules.check_for(method.request_class)
        if method.client_streaming:
            return self._stream(_Requests(method, check, self._largest), continuation)
        if check is not None and method.hot_path:
            check = remembering(check, method.request_class)
        return self._unary(_Requests(method, check, self._largest), continuation)

    def _unary(self, requests: _Requests, continuation: Handler) -> Handler:
        read, in_flight = requests.read, self._in_flight

        async def continue_later(request: bytes, call: Call) -> Response:
            with in_flight.of(requests.most_bytes_of(request)):
                request = await requests.inflate(request)
            # The message is in memory until it is answered.
            with in_flight.of(len(request)):
                message = await requests.read_large(request)
                request = b""  # Nobody needs both.
                return await continuation(message, call)

        def handle(request: bytes, call: Call) -> Awaitable[Response]:
            if len(request) > LARGE or request[:1] in COMPRESSED:
                return continue_later(request, call)
            return continuation(read(request), call)

        return handle

    def _stream(self, requests: _Requests, continuation: Handler) -> Handler:
        in_flight = self._in_flight

        async def messages(received: AsyncIterator[bytes]) -> AsyncIterator[Message]:
            async for request in received:
                if len(request) > LARGE or request[:1] in COMPRESSED:
                    with in_flight.of(requests.most_bytes_of(request)):
                        message = await requests.read_large(await requests.inflate(request))
                    yield message
                else:
                    yield requests.read(request)

        async def handle(received: AsyncIterator[bytes], call: Call) -> Response:
            return await continuation(messages(received), call)

        return handle


class _Requests:
    """Reads the requests of one method.

    Args:
        method: the method.
        check: its rules.
        largest: bytes that any message may have.
    """

    def __init__(self, method: Method, check: Check | None, largest: int) -> None:
        self._class = method.request_class
        self._check = check
        self._largest = min(method.largest_request, largest)
        self._large = LargeRequests(method.request_class)

    def read(self, data: bytes) -> Message:
        """The message that these bytes are, which are few.

        Raises:
            PlatformError: INVALID_FIELDS.
        """
        try:
            message = self._class.FromString(data)
        except DecodeError:
            raise self._unreadable() from None
        if self._check is not None:
            violations: list[Violation] = []
            self._check(message, "", violations)
            if violations:
                raise _invalid(violations)
        return message

    def most_bytes_of(self, data: bytes) -> int:
        """How many bytes a request may have once it is inflated."""
        return self._largest if data[:1] in COMPRESSED else len(data)

    async def inflate(self, data: bytes) -> bytes:
        """The request as it was before it was compressed, if it was.

        Raises:
            PlatformError: REQUEST_TOO_LARGE.
        """
        if data[:1] in COMPRESSED:
            whole = await inflated_in_thread(data, self._largest)
            if whole is None:
                raise self._too_large()
            data = whole
        if len(data) > self._largest:
            raise self._too_large(len(data))
        return data

    async def read_large(self, data: bytes) -> Message:
        """The message that these bytes are, however many they are.

        Raises:
            PlatformError: INVALID_FIELDS.
        """
        violations: list[Violation] = []
        try:
            message = await self._large.parse(data, violations)
        except DecodeError:
            raise self._unreadable() from None
        if self._check is not None and not violations:
            self._check(message, "", violations)
        if violations:
            raise _invalid(violations)
        return message

    def _unreadable(self) -> PlatformError:
        return PlatformError(
            errors_pb2.ERROR_REASON_INVALID_FIELDS,
            f"The request is no {self._class.DESCRIPTOR.name}: its bytes cannot be parsed.",
            remedy="Send the message that the contract names; text in it is UTF-8.",
        )

    def _too_large(self, size: int | None = None) -> PlatformError:
        what = f"{size:,}" if size else f"more than {self._largest:,}"
        return PlatformError(
            errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE,
            f"The request has {what} bytes, and this method takes a {self._class.DESCRIPTOR.name} of at most {self._largest:,}.",
            remedy="Send less at once: fewer rows, shorter texts; large arrays as columns of BatchPredict or raw tensors.",
            metadata={"limit": str(self._largest), **({"bytes": str(size)} if size else {})},
        )


def _invalid(violations: list[Violation]) -> PlatformError:
    summary = "; ".join(f"{violation.field}: {violation.description}" for violation in violations[:3])
    more = f"; and {len(violations) - 3} more" if len(violations) > 3 else ""  # noqa: PLR2004  # as many as are told
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"{summary}{more}.",
        remedy="Correct the field and call again." if len(violations) == 1 else "Correct the fields and call again.",
        violations=violations,
    )
