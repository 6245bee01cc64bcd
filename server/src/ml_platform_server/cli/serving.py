"""Runs the server in this process until a signal ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
import typer

from ml_platform_server.app import WorkerContext, build
from ml_platform_server.cli.signals import Signals
from ml_platform_server.memory import tune_gc
from ml_platform_server.settings import Settings
from ml_platform_server.start import StartupError

_log = structlog.get_logger(__name__)


async def serve_until_stopped(
    settings: Settings, *, worker_context: WorkerContext | None = None, on_ready: Callable[[], None] | None = None
) -> None:
    """Serve; drain on the first SIGTERM or SIGINT, end at once on the second.

    Args:
        settings: all of them.
        worker_context: this process's place among several workers, if it is one of them.
        on_ready: called when calls are answered; by default it is told on standard output.

    Raises:
        StartupError: the server cannot start, or stopped by itself.
        asyncio.CancelledError: a signal came before the server was ready.
    """
    signals = Signals()
    async with build(settings, worker_context=worker_context) as server:
        tune_gc()
        signals.ready()
        if on_ready is not None:
            on_ready()
        else:
            tell_ready(settings, server.port)
        ended = asyncio.create_task(server.wait())
        stopped = asyncio.create_task(signals.stopped.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not signals.stopped.is_set():
            raise StartupError("The server stopped by itself; the log tells why.")
        _log.info("draining", at_most_seconds=settings.server.shutdown_grace)
        await server.drain()
        _log.info("stopped")


def tell_ready(settings: Settings, port: int) -> None:
    """Print the line that whoever started the server waits for."""
    typer.echo(f"ml-platform-server is ready on {settings.server.host}:{port}")
