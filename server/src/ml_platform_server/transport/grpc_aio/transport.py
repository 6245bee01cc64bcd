"""The transport itself: its port, its options, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import grpc

from ml_platform_server.descriptors import most_connections
from ml_platform_server.method import Handler
from ml_platform_server.settings import ServerSettings
from ml_platform_server.start import StartupError
from ml_platform_server.transport.grpc_aio.handlers import register, register_fallback
from ml_platform_server.transport.grpc_aio.health import HealthServicer
from ml_platform_server.transport.grpc_aio.standard import register_standard
from ml_platform_server.transport.grpc_aio.tls import server_credentials
from ml_platform_server.transport.port import Route

_MOST_PENDING = 100_000


class GrpcAioTransport:
    """See Transport.

    Args:
        settings: the section `server`.
        shares_port: whether other processes listen on the same port.
    """

    ended: tuple[type[Exception], ...] = (grpc.aio.AbortError, grpc.aio.InternalError)

    def __init__(self, *, settings: ServerSettings, shares_port: bool = False) -> None:
        self._settings = settings
        self._server = grpc.aio.server(options=_options(settings, shares_port=shares_port))
        self.health = HealthServicer()
        self.port = 0

    async def open(self) -> None:
        """See Transport."""
        credentials = server_credentials(self._settings)
        host, port = self._settings.host, self._settings.port
        address = f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"
        try:
            if credentials is None:
                self.port = self._server.add_insecure_port(address)
            else:
                self.port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise StartupError(f"Port {port} on {host} cannot be had: another process uses it, or it may not be used.") from None

    async def serve(self, routes: Sequence[Route], *, fallback: Handler, services: Sequence[str]) -> None:
        """See Transport."""
        register(self._server, routes)
        register_standard(self._server, services, self.health)
        register_fallback(self._server, fallback)
        await self._server.start()

    async def wait(self) -> None:
        """See Transport."""
        await self._server.wait_for_termination()

    async def stop(self, grace: float) -> None:
        """See Transport."""
        await self._server.stop(grace)


def _options(settings: ServerSettings, *, shares_port: bool) -> list[tuple[str, int]]:
    return [
        # One process owns the port, or one supervisor, so that a second start finds it taken.
        ("grpc.so_reuseport", int(shares_port)),
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # Requests are inflated where they are parsed, with a limit for each method.
        ("grpc.per_message_decompression", 0),
        ("grpc.max_concurrent_streams", settings.max_streams_per_connection),
        # Beyond its own limits gRPC drops calls that wait to be handed over as CANCELLED, without a reason. Ours come before it.
        ("grpc.server.max_pending_requests", _MOST_PENDING),
        ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
        # A socket that sends nothing, or does not speak HTTP/2, is closed; so is a connection without calls after some time. When
        # there are too many connections, a new one is refused at once rather than left to wait.
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.http2.settings_timeout", 10_000),
        ("grpc.max_connection_idle_ms", round(settings.max_connection_idle * 1000)),
        ("grpc.max_allowed_incoming_connections", most_connections()),
        # A connection whose other end is gone is noticed within 80 seconds.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may ping every ten seconds, calls or not: load balancers drop connections that are silent. Half of that is
        # allowed, because a ping may arrive early after one that arrived late.
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        *_connection_age(settings),
    ]


def _connection_age(settings: ServerSettings) -> list[tuple[str, int]]:
    """Clients connect anew now and then, and so find servers that were added. gRPC spreads the time by a tenth.

    There is no grace after which gRPC would end what still runs: streams have limits of their own, with a reason.
    """
    if not settings.max_connection_age:
        return []
    return [("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000))]
