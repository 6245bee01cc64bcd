"""Makes a repeat of a mutating call harmless: the first answer to a request_id is kept and given again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from google.protobuf.message import Message

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call, set_deadline
from ml_platform_server.errors import PlatformError, deadline_exceeded
from ml_platform_server.method import Handler, Method, Response
from ml_platform_server.store.idempotency import CallKey, IdempotencyStore, InProgress, Lease

# A repeat waits this long for the first call at most, and leaves itself this much time to report that it waited in vain.
_PATIENCE = 5.0
_MARGIN = 0.2
_FIELD = "request_id"
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5
# Seconds that the work of one call may take.
WORK_TIMEOUT = 60.0

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Idempotency:
    """Runs a mutating call that brings a request_id once, whatever becomes of its caller.

    The work is not cut off when the caller leaves or its deadline passes: what a backend was asked to do cannot be taken back.
    The response is waited for and stored for the repeat.

    Args:
        calls: where the answers are kept.
        longest: seconds that the work may take.
    """

    def __init__(self, *, calls: IdempotencyStore, longest: float = WORK_TIMEOUT) -> None:
        self._calls = calls
        self._longest = longest
        self._working: set[asyncio.Task[Any]] = set()

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if not method.mutating or method.client_streaming or method.server_streaming:
            return continuation

        async def handle(request: Message, call: Call) -> Response:
            request_id: str = getattr(request, _FIELD)
            if not request_id:
                return await continuation(request, call)
            key = CallKey(call.principal.name, method.full_name, request_id)
            fingerprint = hashlib.sha256(request.SerializeToString(deterministic=True)).digest()
            begun = await self._acquire(key, fingerprint, call)
            if isinstance(begun, bytes):
                call.log_fields["repeated"] = True
                return method.response_class.FromString(begun)
            return await asyncio.shield(self._start(self._work(begun, continuation, request, call)))

        return handle

    async def close(self) -> None:
        """Wait for the work whose callers have left."""
        while self._working:
            await asyncio.wait(self._working)

    async def _acquire(self, key: CallKey, fingerprint: bytes, call: Call) -> Lease | bytes:
        """Wait for the right to do the work, or for the answer of the call that has it."""
        give_up = min(time.monotonic() + _PATIENCE, call.deadline - _MARGIN)
        pause = _FIRST_PAUSE
        while isinstance(begun := await self._try_to_acquire(key, fingerprint), InProgress):
            if time.monotonic() + pause > give_up:
                raise _in_progress(begun.retry_after)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return begun

    async def _try_to_acquire(self, key: CallKey, fingerprint: bytes) -> Lease | bytes | InProgress:
        """Ask the store once. A caller who leaves meanwhile may have got the lease, and then gives it back."""
        acquire = self._start(self._calls.acquire(key, fingerprint))
        try:
            return await asyncio.shield(acquire)
        except asyncio.CancelledError:
            self._start(self._give_back(acquire))
            raise

    async def _give_back(self, acquire: asyncio.Task[Lease | bytes | InProgress]) -> None:
        await asyncio.wait([acquire])
        if not acquire.cancelled() and acquire.exception() is None and isinstance(lease := acquire.result(), Lease):
            await self._forget(lease)

    def _start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled():
            task.exception()  # Its caller may have left; asyncio would report the exception as never retrieved.

    async def _work(self, lease: Lease, continuation: Handler, request: Message, call: Call) -> Response:
        set_deadline(time.monotonic() + self._longest)
        limit = asyncio.timeout(self._longest)
        try:
            async with limit:
                response = await continuation(request, call)
        except BaseException as error:
            await self._forget(lease)
            if isinstance(error, TimeoutError) and limit.expired():
                raise deadline_exceeded("The work") from None
            raise
        assert response is not None  # noqa: S101  # only methods with one response come here
        await self._keep(lease, response)
        return response

    async def _keep(self, lease: Lease, response: Message | bytes) -> None:
        try:
            await self._calls.complete(lease, response if isinstance(response, bytes) else response.SerializeToString())
        except PlatformError:
            # The work is done, so the caller gets its answer; only a repeat will not find it.
            _log.exception("answer_not_kept", method=lease.key.method)

    async def _forget(self, lease: Lease) -> None:
        try:
            await self._calls.release(lease)
        except PlatformError:
            _log.exception("failed_call_not_forgotten", method=lease.key.method)


def _in_progress(retry_after: float) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_REQUEST_IN_PROGRESS,
        "A call with this request_id is still running.",
        remedy="Repeat the call, unchanged, to get its answer.",
        retry_after=max(retry_after, _FIRST_PAUSE),
    )
