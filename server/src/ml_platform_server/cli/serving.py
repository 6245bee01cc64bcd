"""Runs the server in this process until a signal ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import NoReturn

import structlog
import typer

from ml_platform_server import logs
from ml_platform_server.app import build
from ml_platform_server.grpc_server import StartError
from ml_platform_server.settings import Settings

_log = structlog.get_logger(__name__)


async def serve_until_stopped(settings: Settings) -> None:
    """Serve; drain on the first SIGTERM or SIGINT, end at once on the second.

    Raises:
        StartError: the server cannot start, or stopped by itself.
        asyncio.CancelledError: a signal came before the server was ready.
    """
    signals = _Signals()
    async with build(settings) as server:
        signals.ready()
        typer.echo(f"ml-platform-server is ready on {settings.server.host}:{server.port}")
        ended = asyncio.create_task(server.wait())
        stopped = asyncio.create_task(signals.stopped.wait())
        await asyncio.wait([ended, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not signals.stopped.is_set():
            raise StartError("The server stopped by itself; the log tells why.")
        _log.info("draining", at_most_seconds=settings.server.drain)
        await server.drain()
        _log.info("stopped")


def exit_now(status: int) -> NoReturn:
    """End the process without waiting for threads: one that hangs in a backend's call would hold it up until that call ends."""
    logs.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Signals:
    """Turns signals into an orderly end."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self._starting = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)

    def ready(self) -> None:
        """From now on a signal drains; until now it gives up the start."""
        self._starting = None

    def _on_signal(self, number: signal.Signals) -> None:
        if self.stopped.is_set():
            exit_now(128 + number)
        self.stopped.set()
        if self._starting is not None:
            self._starting.cancel()
