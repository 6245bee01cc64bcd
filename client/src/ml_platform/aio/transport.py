"""Makes gRPC calls on asyncio. What differs between the two APIs is here and in `ml_platform.sync.transport`, nowhere else."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, cast

import grpc

from ml_platform.channel import credentials, options
from ml_platform.config import ClientConfig
from ml_platform.errors import ConfigurationError
from ml_platform.forks import gate
from ml_platform.frames import as_stream
from ml_platform.rpcs import MethodSpec, Req, Resp

if TYPE_CHECKING:
    from ml_platform.aio.jobs import AsyncTrainingJob

Metadata = tuple[tuple[str, str], ...]
# What may give the inputs of a stream.
Source = Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]]

sleep = asyncio.sleep


class AsyncTransport:
    """The connection to a platform, opened by the first call: a channel belongs to the event loop it is opened on."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._methods: dict[str, Any] = {}
        self._closed = False
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type[AsyncTransport], tuple[ClientConfig]]:
        """Pickle the configuration alone."""
        return type(self), (self._config,)

    async def unary(
        self,
        rpc: MethodSpec[Req, Resp],
        request: Req,
        *,
        timeout: float,  # noqa: ASYNC109  # gRPC tells it to the server
        metadata: Metadata,
    ) -> Resp:
        """Make one attempt of a call; raises grpc.RpcError."""
        await gate.enter()
        try:
            method = self._method(rpc, "unary_unary")
            response: Resp = await method(request, timeout=timeout, metadata=metadata)
        except grpc.aio.UsageError:
            raise self._unusable() from None
        except asyncio.CancelledError:
            if _caller_was_cancelled():
                raise
            raise self._unusable() from None
        finally:
            gate.leave()
        return response

    def stream(self, rpc: MethodSpec[Req, Resp], request: Req, *, timeout: float | None, metadata: Metadata) -> AsyncStream[Resp]:
        """Open a stream."""
        return AsyncStream(self._method(rpc, "unary_stream")(request, timeout=timeout, metadata=metadata))

    def bidi_stream(self, rpc: MethodSpec[Req, Resp], requests: Requests[Req], *, metadata: Metadata) -> AsyncStream[Resp]:
        """Open a stream on which both sides write."""
        return AsyncStream(self._method(rpc, "stream_stream")(requests, metadata=metadata))

    async def close(self) -> None:
        """Cancel what is under way and hang up."""
        self._closed = True
        if self._channel is not None and self._pid == os.getpid():
            await self._channel.close()

    def _method(self, rpc: MethodSpec[Req, Resp], kind: str) -> Any:  # noqa: ANN401  # one of gRPC's kinds of callable
        channel = self._open()
        if rpc.path not in self._methods:
            self._methods[rpc.path] = getattr(channel, kind)(
                rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
            )
        return self._methods[rpc.path]

    def _open(self) -> grpc.aio.Channel:
        if gate.aio_inherited or (self._channel is not None and self._pid != os.getpid()):
            raise _other_process()
        if self._closed or (self._loop is not None and self._loop is not asyncio.get_running_loop()):
            raise self._unusable()
        if self._channel is None:
            self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
            endpoint, secure = self._config.endpoint, credentials(self._config)
            if secure is None:
                self._channel = grpc.aio.insecure_channel(endpoint.target, options=options(endpoint))
            else:
                self._channel = grpc.aio.secure_channel(endpoint.target, secure, options=options(endpoint))
        return self._channel

    def _unusable(self) -> ConfigurationError:
        what = "is closed" if self._closed else "belongs to another event loop"
        return ConfigurationError(f"This client {what}.", remedy="Make a new one.")


class AsyncStream(Generic[Resp]):
    """A stream of messages from the platform."""

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, Resp] | grpc.aio.StreamStreamCall[Any, Resp]) -> None:
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._ended = False
        gate.stream_opened()

    async def read(self) -> Resp | None:
        """The next message, or None at the end; raises grpc.RpcError."""
        await gate.enter()
        gate.leave()
        try:
            message = await self._call.read()
        except asyncio.CancelledError:
            if _caller_was_cancelled():
                raise
            if self._ended:
                return None
            # Somebody else closed the client: what was not read must not look like the end.
            nothing = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.CANCELLED, nothing, nothing, "the client was closed") from None
        return None if message is grpc.aio.EOF else cast("Resp", message)

    def cancel(self) -> None:
        """End the stream, from whatever thread the garbage collector runs on."""
        if not self._ended:
            self._ended = True
            gate.stream_ended()
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._call.cancel)


class Requests(Generic[Req]):
    """The requests of a stream, made one by one as the platform takes them.

    Attributes:
        failure: what kept the next one from being made; the stream ends before it.
    """

    def __init__(self, source: Source, make: Callable[[int, Mapping[str, Any]], Req]) -> None:
        self.failure: BaseException | None = None
        self._source = source
        self._make = make

    async def __aiter__(self) -> AsyncIterator[Req]:
        index = 0
        try:
            if isinstance(self._source, AsyncIterable):
                async for one in self._source:
                    yield self._make(index, one)
                    index += 1
            else:
                for one in self._source:
                    yield self._make(index, one)
                    index += 1
        except Exception as error:  # noqa: BLE001  # the reader raises it
            self.failure = error


def each(source: Source, make: Callable[[int, Mapping[str, Any]], Req]) -> Requests[Req]:
    """The requests that `make` makes of what a source gives."""
    return Requests(source if isinstance(source, AsyncIterable) else as_stream(source, "inputs"), make)


def _other_process() -> ConfigurationError:
    # What grpc.aio keeps for all channels of a process does not survive a fork, so that a new client would hang as well.
    return ConfigurationError(
        "This process was forked from one that used gRPC with asyncio, which does not work in forked processes.",
        remedy='Start processes with multiprocessing.get_context("spawn"), or use MLPlatform in forked ones.',
    )


def _caller_was_cancelled() -> bool:
    # gRPC raises CancelledError also in tasks that nobody cancelled, when their call or the channel is closed by another.
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def refresh_if_running(_job: AsyncTrainingJob) -> None:
    """Do nothing: a property cannot wait for an answer. `await job.refresh()` does."""
