"""Makes gRPC calls that block. What differs between the two APIs is here and in `ml_platform.aio.transport`, nowhere else."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self

import grpc

from ml_platform.channel import credentials, options
from ml_platform.config import ClientConfig
from ml_platform.errors import ConfigurationError
from ml_platform.forks import FORK_SUPPORT, gate
from ml_platform.frames import as_stream
from ml_platform.rpcs import MethodSpec, Req, Resp

if TYPE_CHECKING:
    from ml_platform.sync.jobs import TrainingJob

Metadata = tuple[tuple[str, str], ...]
# What may give the inputs of a stream.
Source = Iterable[Mapping[str, Any]]

sleep = time.sleep

_reconnecting = threading.Lock()
# A thread of the parent process may have held it.
os.register_at_fork(after_in_child=lambda: globals().update(_reconnecting=threading.Lock()))


class Transport:
    """The connection to a platform. Several threads may use it, and so may a notebook, whose event loop it leaves alone.

    A process that was forked gets a connection of its own: gRPC's threads are gone in it, and calls on the parent's connection
    would wait for them for ever. Pickled, a transport is its configuration.
    """

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._channel = _channel(config)
        self._methods: dict[str, Any] = {}
        self._closed = False
        self._pid = os.getpid()
        # Channels of parent processes. Ending one here would wait for threads that this process does not have.
        self._inherited: list[grpc.Channel] = []

    def __reduce__(self) -> tuple[type[Transport], tuple[ClientConfig]]:
        """Pickle the configuration alone."""
        return type(self), (self._config,)

    def unary(self, rpc: MethodSpec[Req, Resp], request: Req, *, timeout: float, metadata: Metadata) -> Resp:
        """Make one attempt of a call; raises grpc.RpcError."""
        with gate.call():
            response: Resp = self._call(rpc, "unary_unary", request, timeout=timeout, metadata=metadata)
        return response

    def stream(self, rpc: MethodSpec[Req, Resp], request: Req, *, timeout: float | None, metadata: Metadata) -> Stream[Resp]:
        """Open a stream."""
        with gate.call():
            return Stream(self._call(rpc, "unary_stream", request, timeout=timeout, metadata=metadata))

    def bidi_stream(self, rpc: MethodSpec[Req, Resp], requests: Requests[Req], *, metadata: Metadata) -> Stream[Resp]:
        """Open a stream on which both sides write."""
        with gate.call():
            return Stream(self._call(rpc, "stream_stream", requests, timeout=None, metadata=metadata))

    def close(self) -> None:
        """Cancel what is under way and hang up."""
        self._closed = True
        if self._pid == os.getpid():
            self._channel.close()

    def _reconnect(self) -> None:
        """Leave the connection of the parent process, and make one that shares nothing with it."""
        self._inherited.append(self._channel)
        self._channel = _channel(self._config, forked=True)
        self._methods = {}
        self._pid = os.getpid()

    def _call(
        self, rpc: MethodSpec[Req, Resp], kind: str, request: Req | Requests[Req], *, timeout: float | None, metadata: Metadata
    ) -> Any:  # noqa: ANN401  # a reply or a stream
        if self._closed:
            raise _closed()
        if gate.stranded:
            raise _stranded()
        if self._pid != os.getpid():
            with _reconnecting:
                if self._pid != os.getpid():
                    self._reconnect()
        if rpc.path not in self._methods:
            self._methods[rpc.path] = getattr(self._channel, kind)(
                rpc.path, request_serializer=rpc.request.SerializeToString, response_deserializer=rpc.response.FromString
            )
        try:
            return self._methods[rpc.path](request, timeout=timeout, metadata=metadata)
        except ValueError:
            # What gRPC raises where the channel was closed by another thread meanwhile.
            if self._closed:
                raise _closed() from None
            raise


class Stream(Generic[Resp]):
    """A stream of messages from the platform."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401  # gRPC gives this type no public name
        self._call = call
        self._pid = os.getpid()
        self._ended = False
        gate.stream_opened()

    def read(self) -> Resp | None:
        """The next message, or None at the end; raises grpc.RpcError. Ctrl-C is heard while it waits."""
        if self._pid != os.getpid():
            raise ConfigurationError("This stream belongs to the parent process.", remedy="Open a new one in this process.")
        gate.wait()
        message: Resp | None = next(self._call, None)
        return message

    def cancel(self) -> None:
        """End the stream."""
        if self._pid != os.getpid():
            return
        if not self._ended:
            self._ended = True
            gate.stream_ended()
        self._call.cancel()


def _stranded() -> ConfigurationError:
    return ConfigurationError(
        f"This process was forked while {FORK_SUPPORT} switches gRPC off in forked processes.",
        remedy=f'Unset {FORK_SUPPORT}, or start processes with multiprocessing.get_context("spawn").',
    )


def _closed() -> ConfigurationError:
    return ConfigurationError("This client is closed.", remedy="Make a new one.")


def _channel(config: ClientConfig, *, forked: bool = False) -> grpc.Channel:
    endpoint, secure = config.endpoint, credentials(config)
    chosen = options(endpoint)
    if forked:
        # The pool that channels of a process share otherwise holds the parent's connections.
        chosen.append(("grpc.use_local_subchannel_pool", 1))
    if secure is None:
        return grpc.insecure_channel(endpoint.target, options=chosen)
    return grpc.secure_channel(endpoint.target, secure, options=chosen)


class Requests(Generic[Req]):
    """The requests of a stream, made one by one as the platform takes them, in a thread of gRPC's.

    Attributes:
        failure: what kept the next one from being made; the stream ends before it.
    """

    def __init__(self, source: Source, make: Callable[[int, Mapping[str, Any]], Req]) -> None:
        self.failure: BaseException | None = None
        self._made = (make(index, one) for index, one in enumerate(source))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Req:
        gate.wait()
        try:
            return next(self._made)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001  # the reader raises it
            self.failure = error
            raise StopIteration from None


def each(source: Source, make: Callable[[int, Mapping[str, Any]], Req]) -> Requests[Req]:
    """The requests that `make` makes of what a source gives."""
    return Requests(as_stream(source, "inputs"), make)


def refresh_if_running(job: TrainingJob) -> None:
    """Look again at a job that may have moved on since it was last seen."""
    if not job.finished:
        job.refresh()
