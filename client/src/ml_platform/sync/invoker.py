# Made from ml_platform/aio/invoker.py by scripts/sync_api.py. Change that file and run `make generate`.
"""Makes calls: deadlines, retries, correlation ids and pages are settled here, so that no method needs to think of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import uuid4

import grpc

from ml_platform.channel import LARGEST_MESSAGE
from ml_platform.config import ClientConfig
from ml_platform.errors import MLPlatformError
from ml_platform.records import Listing
from ml_platform.retry import Attempts
from ml_platform.rpcs import MethodSpec, Req, Resp
from ml_platform.status import CORRELATION_ID_KEY, to_error
from ml_platform.sync.transport import Metadata, Requests, Stream, Transport, sleep
from ml_platform.values import to_number

PAGE = 500
# Tells the server how large a response may be.
_LIMIT = ("x-max-response-bytes", str(LARGEST_MESSAGE))
T = TypeVar("T")


class Invoker:
    """Calls methods of the contract with the manners that every call needs."""

    def __init__(self, config: ClientConfig, transport: Transport | None = None) -> None:
        self.config = config
        self._transport = transport or Transport(config)

    def with_options(self, *, timeout: float | None, retries: int | None) -> Invoker:
        """The same connection with other manners; None keeps what there is."""
        config = replace(
            self.config,
            timeout=self.config.timeout if timeout is None else timeout,
            retries=self.config.retries if retries is None else retries,
        )
        return Invoker(config, self._transport)

    def call(self, rpc: MethodSpec[Req, Resp], request: Req) -> Resp:
        """Call a unary method.

        All attempts together stay within the deadline. A mutating request gets a `request_id`, the same on every attempt, so that
        a repeat is harmless.

        Raises:
            MLPlatformError: the call failed, and trying again did not help.
        """
        _identify(request)
        call_id = uuid4().hex
        attempts = Attempts(timeout=self.config.timeout, retries=self.config.retries)
        while True:
            try:
                return self._transport.unary(rpc, request, timeout=attempts.remaining(), metadata=self._metadata(call_id))
            except grpc.RpcError as error:
                failure = self.translate(error, call_id, tried=attempts.described())
            pause = attempts.pause_after(failure)
            if pause is None:
                raise failure
            sleep(pause)

    def collect(
        self,
        rpc: MethodSpec[Req, Resp],
        request: Req,
        items: Callable[[Resp], Iterable[Any]],
        read: Callable[[Any], T],
        *,
        limit: int | None,
    ) -> Listing[T]:
        """Call a list method for every page, or for as many as `limit` needs."""
        if limit is not None:
            limit = to_number(limit, "limit")
        found: Listing[T] = Listing()
        page: Any = request
        while True:
            page.page_size = PAGE if limit is None else min(PAGE, limit - len(found))
            response: Any = self.call(rpc, request)
            found.extend(read(message) for message in items(response))
            page.page_token = response.next_page_token
            if not page.page_token or (limit is not None and len(found) >= limit):
                return found if limit is None else Listing(found[:limit])

    def stream(self, rpc: MethodSpec[Req, Resp], request: Req, *, call_id: str, timeout: float | None) -> Stream[Resp]:
        """Open a stream. Whoever opens it cancels it."""
        return self._transport.stream(rpc, request, timeout=timeout, metadata=self._metadata(call_id))

    def bidi_stream(self, rpc: MethodSpec[Req, Resp], requests: Requests[Req], *, call_id: str) -> Stream[Resp]:
        """Open a stream on which both sides write, without a deadline. Whoever opens it cancels it."""
        return self._transport.bidi_stream(rpc, requests, metadata=self._metadata(call_id))

    def translate(self, error: grpc.RpcError, call_id: str, *, tried: str = "") -> MLPlatformError:
        """The client's error for what gRPC raised."""
        return to_error(error, endpoint=self.config.endpoint, correlation_id=call_id, tried=tried)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def _metadata(self, call_id: str) -> Metadata:
        pairs = ((CORRELATION_ID_KEY, call_id), _LIMIT)
        return (("authorization", f"Bearer {self.config.api_key}"), *pairs) if self.config.api_key else pairs


def _identify(request: Any) -> None:  # noqa: ANN401  # a message; only its own type would tell its fields
    if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
        request.request_id = str(uuid4())
