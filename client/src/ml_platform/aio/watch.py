"""Watching a job live, over as many streams as it takes, with never a stream left behind."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import grpc

from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.transport import AsyncStream, sleep
from ml_platform.errors import MLPlatformError
from ml_platform.resources.jobs import Job, JobUpdate
from ml_platform.rpcs import WATCH_JOB
from ml_platform.v1.jobs_pb2 import WatchJobResponse
from ml_platform.watch_state import WatchState


class AsyncJobWatch:
    """The updates of one job, as they happen; ends after the terminal one.

    It comes back by itself when the connection breaks. The stream is cancelled when the job ends, when the watch is closed, when
    something is raised in it (Ctrl-C too) and when nobody holds the watch any more, after a `break` for instance.
    """

    def __init__(self, invoker: AsyncInvoker, watch_state: WatchState, see: Callable[[Job], object] | None = None) -> None:
        self._invoker = invoker
        self._following = watch_state
        self._see = see
        self._call_id = uuid4().hex
        self._slot = _Slot()
        # gRPC itself never cancels a call that was let go of.
        self._finalizer = weakref.finalize(self, self._slot.cancel)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobUpdate:
        try:
            update = await self._next()
        except BaseException:
            await self.close()
            raise
        if update is None:
            await self.close()
            raise StopAsyncIteration
        return update

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop watching. The job goes on."""
        self._following.done = True
        self._slot.cancel()

    async def _next(self) -> JobUpdate | None:
        while not self._following.done:
            message = await self._read()
            update = self._following.heard(message) if message is not None else None
            if update is not None:
                if self._see is not None:
                    self._see(update.job)
                return update
        return None

    async def _read(self) -> WatchJobResponse | None:
        """The next message, or None where a stream ended and another must be opened."""
        failure: MLPlatformError | None = None
        try:
            message = await self._stream().read()
            if message is not None:
                return message
        except grpc.RpcError as error:
            failure = self._invoker.translate(error, self._call_id)
        self._slot.cancel()
        if not self._following.done:
            await sleep(self._following.pause_after(failure))
        return None

    def _stream(self) -> AsyncStream[WatchJobResponse]:
        if self._slot.stream is None:
            request = self._following.request()
            remaining = self._following.remaining()
            self._slot.stream = self._invoker.stream(WATCH_JOB, request, call_id=self._call_id, timeout=remaining)
        stream: AsyncStream[WatchJobResponse] = self._slot.stream
        return stream


class _Slot:
    """Holds the stream that is open now, so that a finalizer can reach it without holding the watch."""

    def __init__(self) -> None:
        self.stream: Any = None

    def cancel(self) -> None:
        """Cancel the stream, if there is one."""
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.cancel()
