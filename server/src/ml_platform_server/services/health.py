"""Checks the health of the backends at an interval, and sets the status of the services that depend on them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.transport.port import Health

# A backend that has not answered by then is not well, whatever else it does.
PROBE_TIMEOUT = 4.0
# Seconds after the first round in which a backend is not well: at the start it often needs only a moment more. After each round
# like it twice as long, up to the interval.
SOON = 0.5

_log = structlog.get_logger(__name__)


class HealthCheckable(Protocol):
    """Something that can be asked how it is."""

    async def probe(self) -> None:
        """Return if it is well; raise PlatformError, with a text that a caller may read, if not."""


@dataclass(slots=True)
class BackendStatus:
    """How one backend is. Times are seconds since the epoch, the latency is in seconds; None means never."""

    name: str
    healthy: bool | None = None
    latency: float | None = None
    check_time: float | None = None
    last_error: str = ""
    last_error_time: float | None = None


class HealthChecker:
    """Probes every backend, all at once, at an interval and on request.

    Args:
        backends: what to probe, by name.
        required_backends: for each service, as grpc.health.v1 names it, the backends without which it cannot serve.
        servicer: the standard health service, whose statuses it sets.
        interval: seconds between two rounds.
        timeout: seconds after which a probe counts as failed.
    """

    def __init__(
        self,
        *,
        backends: Mapping[str, HealthCheckable],
        required_backends: Mapping[str, Sequence[str]],
        servicer: Health,
        interval: float,
        timeout: float = PROBE_TIMEOUT,
    ) -> None:
        self._backends = backends
        self._required_backends = required_backends
        self._servicer = servicer
        self._interval = interval
        self._timeout = timeout
        self._statuses = {name: BackendStatus(name) for name in backends}
        self._serving: dict[str, bool | None] = dict.fromkeys(required_backends)
        self._round: asyncio.Task[None] | None = None
        self._loop: asyncio.Task[None] | None = None
        self._closed = False

    async def open(self) -> None:
        """Say NOT_SERVING for everything, and begin to probe. Does not wait for the first round."""
        await self._tell()
        self._loop = asyncio.create_task(self._probe_forever())

    async def close(self) -> None:
        """Say NOT_SERVING for good, and stop probing."""
        self._closed = True
        await self._servicer.enter_graceful_shutdown()
        tasks = [task for task in (self._loop, self._round) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def statuses(self) -> list[BackendStatus]:
        """How each backend was when it was last asked."""
        return list(self._statuses.values())

    def serving(self, service: str = "") -> bool:
        """Whether a service, or the server as a whole, can serve; False until that is known, and once closed."""
        return not self._closed and bool(self._serving.get(service))

    async def check(self) -> list[BackendStatus]:
        """Probe every backend now and return the statuses. Concurrent callers share one round."""
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._probe_all())
        await asyncio.shield(self._round)
        return list(self._statuses.values())

    async def _probe_forever(self) -> None:
        soon = SOON / 2
        while True:
            statuses = await self.check()
            all_well = all(status.healthy for status in statuses)
            soon = SOON / 2 if all_well else min(2 * soon, self._interval)
            await asyncio.sleep(self._interval if all_well else soon)

    async def _probe_all(self) -> None:
        # The round may have been started by a call; it must not inherit that call's deadline.
        set_deadline(None)
        await asyncio.gather(*(self._probe(name, backend) for name, backend in self._backends.items()))

    async def _probe(self, name: str, backend: HealthCheckable) -> None:
        status = self._statuses[name]
        start = time.perf_counter()
        error = await self._error_of(name, backend)
        if status.healthy is not (not error):
            _log.info("backend_changed", backend=name, healthy=not error, error=error)
        status.latency = time.perf_counter() - start
        status.check_time = time.time()
        status.healthy = not error
        if error:
            status.last_error, status.last_error_time = error, status.check_time
        # At once, and not at the end of the round: one backend that hangs would hold up the news of the others.
        await self._tell()

    async def _error_of(self, name: str, backend: HealthCheckable) -> str:
        """What is wrong with a backend, in a sentence of ours; empty if nothing is."""
        try:
            async with asyncio.timeout(self._timeout):
                await backend.probe()
        except TimeoutError:
            return f"It did not answer within {self._timeout:g} seconds."
        except PlatformError as error:
            return error.message
        except Exception:  # noqa: BLE001  # a probe that breaks means a backend that is not well, and must not end the probing
            _log.exception("probe_failed", backend=name)
            return "It could not be asked; the server's log tells why."
        return ""

    async def _tell(self) -> None:
        for service, names in self._required_backends.items():
            serving = all(self._statuses[name].healthy for name in names)
            if self._serving[service] is not serving:
                self._serving[service] = serving
                await self._servicer.set_serving(service, serving)
