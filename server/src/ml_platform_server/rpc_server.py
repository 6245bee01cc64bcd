"""The RPC server: the chains around its services, on a transport, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from google.protobuf.descriptor import ServiceDescriptor

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
from ml_platform_server.routes import Admission, fallback, routes_of
from ml_platform_server.settings import ServerSettings
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.transport.port import Transport

# What gRPC needs to send the last answers after the last call has ended.
FLUSH_SECONDS = 0.5
# How long callers who do not stop calling are waited for: turns of the event loop, a millisecond each or longer, and seconds.
_LAST_CALLERS_TURNS = 1000
_LAST_CALLERS_SECONDS = 5.0
# Seconds of waiting for them that are not taken from the calls that run.
_LAST_CALLERS_EXTRA = 1.0
# How long the word that its connection ends may take to a client.
GOAWAY_SECONDS = 0.1
_log = structlog.get_logger(__name__)


class RpcServer:
    """Serves the contract's services, and the standard health and reflection beside them.

    It takes its port when it is opened, so that a port that is taken is noticed before anything slow begins, and serves once
    `serve` is called.

    Args:
        settings: the section `server`.
        transport: accepts the calls.
    """

    def __init__(self, *, settings: ServerSettings, transport: Transport) -> None:
        self._settings = settings
        self._shutdown = Shutdown()
        self._overload = Overload(running=self._shutdown, settings=settings)
        self._idempotency: Idempotency | None = None
        self._transport = transport

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._transport.port

    async def open(self) -> None:
        """Take the port.

        Raises:
            StartupError: the port is not to be had, or must not be offered in plaintext, or the TLS files cannot be used.
        """
        await self._transport.open()

    async def serve(
        self,
        services: Sequence[tuple[ServiceDescriptor, object]],
        *,
        keys: Keys,
        calls: IdempotencyStore,
        metrics: CallMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Begin to answer.

        Args:
            services: each service of the contract with its servicer.
            keys: know whose key it is.
            calls: keeps the answers to mutating calls.
            metrics: counts the calls.
            tracing: traces some of them.
        """
        self._idempotency = Idempotency(calls=calls)
        traces = () if tracing is None else (Traces(tracing),)
        observing = (CorrelationId(), *traces, AccessLog(metrics), Errors(ended=self._transport.ended))
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
        routes, names = routes_of(services, admission=admission), [service.full_name for service, _ in services]
        self._overload.open()
        await self._transport.serve(routes, fallback=fallback(refusing.wrap), services=names)

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._transport.wait()

    async def close(self) -> None:
        """Stop at once. Harmless after `stop`."""
        await self.stop(grace=0)

    async def stop(self, grace: float) -> None:
        """Accept nothing new, let calls end for `grace` seconds, end the others with SHUTTING_DOWN, and stop."""
        loop = asyncio.get_running_loop()
        end = loop.time() + grace + _LAST_CALLERS_EXTRA
        await self._shutdown.reject_new(_LAST_CALLERS_TURNS, min(grace, _LAST_CALLERS_SECONDS))
        stopping = asyncio.create_task(self._transport.stop(grace + 2 * FLUSH_SECONDS))
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
        # Watches of the standard health service never end by themselves, so they are not waited for.
        await self._transport.stop(FLUSH_SECONDS)
        await stopping
