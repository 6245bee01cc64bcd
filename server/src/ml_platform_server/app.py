"""The composition root: puts the parts together and serves. Whoever is opened here is closed here, in the opposite order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog

from ml_platform_server.errors import PlatformError
from ml_platform_server.grpc_server import GrpcServer
from ml_platform_server.offers import PREDICTIONS, offered, parts_for
from ml_platform_server.parts import Parts
from ml_platform_server.settings import Settings

# How long the first answer may wait for the models that are deployed: a caller rather waits for a start than for its prediction.
WARM_UP = 5.0

_log = structlog.get_logger(__name__)


class Server:
    """The running server.

    Attributes:
        port: where it listens.
    """

    def __init__(self, *, grpc_server: GrpcServer, parts: Parts, drain: float) -> None:
        self._grpc_server = grpc_server
        self._parts = parts
        self._drain = drain
        self.port = grpc_server.port

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._grpc_server.wait()

    async def drain(self) -> None:
        """Say NOT_SERVING, send watchers away, let calls end, and stop."""
        await self._parts.quieten()
        await self._grpc_server.stop(self._drain)


@asynccontextmanager
async def build(settings: Settings, *, shares_port: bool = False) -> AsyncIterator[Server]:
    """Build the server from its settings and serve, until the block ends. Backends that are down keep nobody from serving.

    Args:
        settings: all of them.
        shares_port: whether this process is one of several that listen on the same port.

    Raises:
        StartError: the server cannot start as it is configured.
    """
    offers = offered(settings)
    parts = parts_for(settings, offers)
    grpc_server = GrpcServer(settings=settings.server, shares_port=shares_port)
    async with AsyncExitStack() as stack:
        if not shares_port:
            # First of all, so that a port that is taken is told before the vendors' libraries are loaded.
            await _take_port(stack, grpc_server)
        verify, calls = parts.keys.verify, parts.calls
        services = [(offer.service, offer.servicer(parts)) for offer in offers]
        _ = parts.prober
        await parts.open(stack)
        if any(offer.name == PREDICTIONS for offer in offers):
            await _warm_up(parts)
        if shares_port:
            # Last of all: from here on connections come to this process rather than to one that is ready for them.
            await _take_port(stack, grpc_server)
        # Closed before everything that its calls need.
        stack.push_async_callback(grpc_server.close)
        await grpc_server.serve(services, verify=verify, calls=calls, health_servicer=parts.health)
        yield Server(grpc_server=grpc_server, parts=parts, drain=settings.server.drain)


async def _take_port(stack: AsyncExitStack, grpc_server: GrpcServer) -> None:
    stack.push_async_callback(grpc_server.close)
    await grpc_server.open()


async def _warm_up(parts: Parts) -> None:
    """Load what is deployed, as far as that is to be had in time; the rest is loaded later."""
    try:
        async with asyncio.timeout(WARM_UP):
            await parts.engine.refresh()
    except (PlatformError, TimeoutError) as error:
        _log.warning("served_before_models_are_loaded", error=str(error))
