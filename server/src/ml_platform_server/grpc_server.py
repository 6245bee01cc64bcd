"""The gRPC server itself: its port, its options, the chain around its services, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health

from ml_platform_server.descriptors import most_connections
from ml_platform_server.interceptors.access_log import AccessLog
from ml_platform_server.interceptors.auth import Auth, Keys, allowed
from ml_platform_server.interceptors.chain import Chain
from ml_platform_server.interceptors.correlation_id import CorrelationId
from ml_platform_server.interceptors.deadline import Deadline
from ml_platform_server.interceptors.errors import Errors
from ml_platform_server.interceptors.idempotency import Idempotency
from ml_platform_server.interceptors.overload import Overload
from ml_platform_server.interceptors.receive import Receive
from ml_platform_server.interceptors.response_size import ResponseSize
from ml_platform_server.interceptors.revocation import Revocation
from ml_platform_server.interceptors.shutdown import Shutdown, Unadmitted
from ml_platform_server.interceptors.tracing import Traces
from ml_platform_server.interceptors.validation.interceptor import Validation
from ml_platform_server.observability.recorders import CallMetrics
from ml_platform_server.observability.tracing import Tracing
from ml_platform_server.services.registry import Admission, register, register_fallback
from ml_platform_server.services.standard import register_standard
from ml_platform_server.settings import ServerSettings
from ml_platform_server.start import StartupError
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.tls import server_credentials

# What gRPC needs to send the last answers after the last call has ended.
FLUSH_SECONDS = 0.5
# How long callers who do not stop calling are waited for: turns of the event loop, a millisecond each or longer, and seconds.
_LAST_CALLERS_TURNS = 1000
_LAST_CALLERS_SECONDS = 5.0
# Seconds of waiting for them that are not taken from the calls that run.
_LAST_CALLERS_EXTRA = 1.0
# How long the word that its connection ends may take to a client.
GOAWAY_SECONDS = 0.1
_MOST_PENDING = 100_000
_log = structlog.get_logger(__name__)


class GrpcServer:
    """Serves the contract's services, and the standard health and reflection beside them.

    It takes its port when it is opened, so that a port that is taken is noticed before anything slow begins, and answers once it
    is told what to serve.
    """

    def __init__(self, *, settings: ServerSettings, shares_port: bool = False) -> None:
        self._settings = settings
        self._shutdown = Shutdown()
        self._overload = Overload(running=self._shutdown, settings=settings)
        self._idempotency: Idempotency | None = None
        self._server = grpc.aio.server(options=_options(settings, shares_port=shares_port))
        self.port = 0

    async def open(self) -> None:
        """Take the port.

        Raises:
            StartupError: the port is not to be had, or must not be offered in plaintext, or the TLS files cannot be used.
        """
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

    async def serve(
        self,
        services: Sequence[tuple[ServiceDescriptor, object]],
        *,
        keys: Keys,
        calls: IdempotencyStore,
        health_servicer: health.aio.HealthServicer,
        metrics: CallMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Begin to answer.

        Args:
            services: each service of the contract with its servicer.
            keys: know whose key it is.
            calls: keeps the answers to mutating calls.
            health_servicer: the standard health service, which somebody else keeps up to date.
            metrics: counts the calls.
            tracing: traces some of them.
        """
        self._idempotency = Idempotency(calls=calls)
        traces = () if tracing is None else (Traces(tracing),)
        observing = (CorrelationId(), *traces, AccessLog(metrics), Errors())
        auth, revocation = Auth(keys=keys), Revocation(keys=keys)
        deadline, timed = (Deadline(default=self._settings.default_deadline, timed=timed) for timed in (False, True))
        largest = self._settings.max_message_bytes
        answered = (
            Validation(largest=largest, most_bytes=self._settings.max_large_request_bytes),
            ResponseSize(largest=largest),
            self._idempotency,
        )
        refusing = Chain((*observing, Unadmitted(self._shutdown)))
        admission = Admission(
            identify=auth.identify,
            allowed=allowed,
            full=self._overload.full,
            admitted=Chain((*observing, self._shutdown, revocation, deadline, *answered)).wrap,
            waiting=Chain(
                (*observing, Unadmitted(self._shutdown), timed, auth, self._overload, revocation, Receive(), *answered)
            ).wrap,
        )
        register(self._server, services, admission=admission)
        register_standard(self._server, [service.full_name for service, _ in services], health_servicer)
        register_fallback(self._server, wrap=refusing.wrap)
        self._overload.open()
        await self._server.start()

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()

    async def close(self) -> None:
        """Stop at once. Harmless after `stop`."""
        await self.stop(grace=0)

    async def stop(self, grace: float) -> None:
        """Accept nothing new, let calls end for `grace` seconds, tell what is left that the server shuts down, and stop."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace + _LAST_CALLERS_EXTRA
        await self._shutdown.reject_new(_LAST_CALLERS_TURNS, min(grace, _LAST_CALLERS_SECONDS))
        stopping = asyncio.create_task(self._server.stop(grace + 2 * FLUSH_SECONDS))
        await asyncio.sleep(min(grace, GOAWAY_SECONDS))
        self._shutdown.release_rejected()
        try:
            async with asyncio.timeout(min(grace, end - loop.time())):
                await self._shutdown.wait_idle()
                if self._idempotency is not None:
                    await self._idempotency.close()
        except TimeoutError:
            _log.warning("shutdown_grace_exceeded", after_seconds=grace)
            self._shutdown.cancel_running()
        self._overload.close()
        # Watchers of the standard health service never leave by themselves; nobody waits for them.
        await self._server.stop(FLUSH_SECONDS)
        await stopping


def _options(settings: ServerSettings, *, shares_port: bool) -> list[tuple[str, int]]:
    return [
        # One process owns the port, or one supervisor, so that a second start is told that it is taken.
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

    There is no grace after which gRPC would end what still runs: streams have limits of their own, which tell their callers why.
    """
    if not settings.max_connection_age:
        return []
    return [("grpc.max_connection_age_ms", round(settings.max_connection_age * 1000))]
