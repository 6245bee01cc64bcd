"""Runs several worker processes on one port until a signal ends them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import typer

from ml_platform_server.cli.signals import Signals
from ml_platform_server.observability.exposition import MetricsServer
from ml_platform_server.settings import Settings
from ml_platform_server.supervisor.metrics import WorkersMetrics
from ml_platform_server.supervisor.port import PortTakenError, SharedPort
from ml_platform_server.supervisor.supervisor import Supervisor
from ml_platform_server.transport.grpc_aio import tls


async def supervise_until_stopped(settings: Settings) -> None:
    """Keep the workers; drain them on the first SIGTERM or SIGINT, end them at once on the second, replace them on SIGHUP.

    Raises:
        PortTakenError: the port, or that of the metrics, is not to be had.
        WorkersFailedError: no worker could start.
        StartupError: the address must not be offered in plaintext, or the TLS files cannot be used.
        asyncio.CancelledError: a signal came before all workers were ready.
    """
    server = settings.server
    tls.check(server)  # Before any worker finds out that it cannot serve.
    async with AsyncExitStack() as stack:
        port = stack.enter_context(SharedPort(server.host, server.port))
        metrics = None if server.metrics_port is None else stack.enter_context(WorkersMetrics(workers=server.workers))
        supervisor = Supervisor(
            workers=server.workers,
            command=lambda number, channel: _command(number, channel, metrics),
            env={**os.environ, **_environment(settings, port.number)},
            drain=server.shutdown_grace,
            worker_timeout=server.worker_timeout,
            on_ready=lambda: typer.echo(f"ml-platform-server is ready on {server.host}:{port.number}"),
        )
        if metrics is not None:
            await stack.enter_async_context(_told(settings, metrics, supervisor))
        await _run(supervisor)


async def _run(supervisor: Supervisor) -> None:
    signals = Signals(at_once=supervisor.kill)
    signals.ready()  # Giving up the start is the supervisor's too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, supervisor.roll)
    running = asyncio.create_task(supervisor.run())
    stopped = asyncio.create_task(signals.stopped.wait())
    await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    supervisor.stop()
    await running
    if not supervisor.started:
        raise asyncio.CancelledError


@asynccontextmanager
async def _told(settings: Settings, metrics: WorkersMetrics, supervisor: Supervisor) -> AsyncIterator[None]:
    """Tell the metrics of all workers."""
    host, port = settings.server.metrics_host, settings.server.metrics_port or 0
    served = MetricsServer(page=metrics.page, ready=lambda: supervisor.started)
    try:
        await served.listen(host, port)
    except OSError as error:
        raise PortTakenError(f"Port {port} for the metrics cannot be had: {error.strerror}.") from None
    try:
        yield
    finally:
        await served.close()


def _command(number: int, channel: int, metrics: WorkersMetrics | None) -> Sequence[str]:
    metrics_option = () if metrics is None else ("--metrics-socket", str(metrics.socket_of(number)))
    return (sys.executable, "-m", "ml_platform_server", "worker", "--channel", str(channel), *metrics_option)


def _environment(settings: Settings, port: int) -> dict[str, str]:
    """The workers' settings, where they may differ from what they would read themselves."""
    server = settings.server
    metrics_port = "" if server.metrics_port is None else str(server.metrics_port)
    given = {"HOST": server.host, "PORT": str(port), "SERVICES": server.services, "METRICS_PORT": metrics_port, "WORKERS": "1"}
    return {f"ML_PLATFORM_SERVER__{name}": value for name, value in given.items()}
