"""The composition root: puts the parts together and serves. What is opened here is closed here, in the opposite order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from ml_platform_server.container import Container
from ml_platform_server.observability.collectors import registry_of
from ml_platform_server.observability.exposition import MetricsServer, pages_of
from ml_platform_server.observability.tracing import Tracing, TracingError, from_settings
from ml_platform_server.rpc_server import RpcServer
from ml_platform_server.service_specs import PREDICTIONS, parts_for, selected_specs
from ml_platform_server.settings import Settings
from ml_platform_server.start import StartupError
from ml_platform_server.transport.grpc_aio.transport import GrpcAioTransport

# How long the first answer may wait for the models that are deployed: a caller rather waits for a start than for its prediction.
WARM_UP = 5.0
# The same where others answer meanwhile.
WARM_UP_OF_WORKER = 15.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """The place of a process that is one of several on the same port.

    Attributes:
        metrics_socket: where it serves its metrics, if it does, for another process to merge with the others'.
    """

    metrics_socket: Path | None


class Server:
    """The running server.

    Attributes:
        port: where it listens.
    """

    def __init__(self, *, rpc_server: RpcServer, parts: Container, ready: asyncio.Event) -> None:
        self._rpc_server = rpc_server
        self._parts = parts
        self._ready = ready
        self._ready.set()
        self.port = rpc_server.port

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._rpc_server.wait()

    async def drain(self) -> None:
        """Say NOT_SERVING, send watchers away, let calls end, and stop."""
        self._ready.clear()
        await self._parts.begin_shutdown()
        await self._rpc_server.stop(self._parts.settings.server.shutdown_grace)


@asynccontextmanager
async def build(settings: Settings, *, worker_context: WorkerContext | None = None) -> AsyncIterator[Server]:
    """Build the server from its settings and serve, until the block ends. It serves although backends are down.

    Args:
        settings: all of them.
        worker_context: this process's place among several that share the port, if it is one of them.

    Raises:
        StartupError: the server cannot start as it is configured.
    """
    specs = selected_specs(settings)
    transport = GrpcAioTransport(settings=settings.server, shares_port=worker_context is not None)
    parts = parts_for(settings, specs, health=transport.health)
    rpc_server = RpcServer(settings=settings.server, transport=transport)
    async with AsyncExitStack() as stack:
        if worker_context is None:
            # First of all, so that a port that is taken is reported before the vendors' libraries are loaded.
            await _take_port(stack, rpc_server)
        keys, calls, tracing, ready = parts.keys, parts.calls, _tracing(settings, stack), asyncio.Event()
        await _tell_metrics(stack, parts, worker_context, ready)
        if any(spec.name == PREDICTIONS for spec in specs):
            # Before the others make their parts: each loads a library, and they would slow each other down.
            _ = parts.engine
            await parts.open(stack)
            await _warm_up(stack, parts, seconds=WARM_UP if worker_context is None else WARM_UP_OF_WORKER)
        services = [(spec.service, spec.servicer(parts)) for spec in specs]
        _ = parts.prober
        await parts.open(stack)
        if worker_context is not None:
            # Last of all: from here on connections come to this process rather than to one that is ready for them.
            await _take_port(stack, rpc_server)
        # Closed before everything that its calls need.
        stack.push_async_callback(rpc_server.close)
        await rpc_server.serve(
            services,
            keys=keys,
            calls=calls,
            metrics=parts.call_metrics,
            tracing=tracing,
        )
        yield Server(rpc_server=rpc_server, parts=parts, ready=ready)


def _tracing(settings: Settings, stack: AsyncExitStack) -> Tracing | None:
    try:
        tracing = from_settings(settings.tracing)
    except TracingError as error:
        raise StartupError(str(error)) from None
    if tracing is not None:
        stack.push_async_callback(tracing.close)
    return tracing


async def _take_port(stack: AsyncExitStack, rpc_server: RpcServer) -> None:
    stack.push_async_callback(rpc_server.close)
    await rpc_server.open()


async def _tell_metrics(
    stack: AsyncExitStack, parts: Container, worker_context: WorkerContext | None, ready: asyncio.Event
) -> None:
    settings = parts.settings.server
    if settings.metrics_port is None:
        return
    registry = registry_of(calls=parts.call_metrics, predictions=parts.prediction_metrics, backends=lambda: parts.prober.statuses)
    served = MetricsServer(page=pages_of(registry), ready=ready.is_set)
    stack.push_async_callback(served.close)
    try:
        if worker_context is not None and worker_context.metrics_socket is not None:
            await served.listen_unix(worker_context.metrics_socket)
        elif worker_context is None:
            await served.listen(settings.metrics_host, settings.metrics_port)
    except OSError as error:
        raise StartupError(f"Port {settings.metrics_port} for the metrics cannot be had: {error.strerror}.") from None


async def _warm_up(stack: AsyncExitStack, parts: Container, *, seconds: float) -> None:
    """Load what is deployed, as far as that is to be had in time; the rest goes on loading."""
    loading = asyncio.create_task(parts.engine.refresh())
    stack.callback(loading.cancel)
    await asyncio.wait({loading}, timeout=seconds)
    if not loading.done():
        _log.warning("warmup_timed_out", after_seconds=seconds)
    elif loading.exception() is not None:  # The engine goes on trying.
        _log.warning("warmup_timed_out", error=str(loading.exception()))
