"""The server's one connection to Airflow's API: the official client in a pool of its own, with a token that stays fresh."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.airflow.errors import CREDENTIALS_REFUSED, AirflowHTTPError, AirflowUnavailableError, translate
from ml_platform_server.backends.airflow.links import Links
from ml_platform_server.backends.airflow.tokens import Tokens
from ml_platform_server.backends.blocking import BlockingPool, longest_run
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import AirflowSettings

if TYPE_CHECKING:
    from airflow_client.client import ApiClient

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

SHORTEST_TIMEOUT = 0.1
"""Seconds; below it the client would refuse the timeout itself, instead of trying and telling that the time is up."""


class AirflowBackend:
    """Airflow's API. Open it before use; whoever opens it closes it.

    Attributes:
        links: where its web interface shows runs.
    """

    def __init__(self, *, settings: AirflowSettings) -> None:
        self._settings = settings
        self.links = Links(settings)
        self._pool = BlockingPool("Airflow", threads=settings.threads, timeout=longest_run(settings.timeout))
        self._tokens = Tokens(settings=settings)
        self._client: ApiClient | None = None
        self._loading = threading.Lock()
        self._warming: asyncio.Task[ApiClient] | None = None

    async def open(self) -> None:
        """Begin to load the client, without waiting for it: that takes over a second. Airflow itself need not be up."""
        self._warming = asyncio.create_task(self._pool.run(self._loaded))
        # Whoever calls next loads it again and reports what goes wrong then.
        self._warming.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def close(self) -> None:
        """Close the connections and let the threads end."""
        if self._warming is not None:
            self._warming.cancel()
        await self._tokens.close()
        self._pool.close()

    async def probe(self) -> None:
        """Ask Airflow how it is: its database, its scheduler, and whether it still accepts our token.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE or BACKEND_FAILED when jobs cannot run now.
        """
        unwell = await self.call(_unwell_parts)
        if unwell:
            raise PlatformError(
                errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"Airflow answers, but is not well: {', '.join(unwell)}.",
                remedy="Look at Airflow's own log.",
                retry_after=5.0,
                metadata={"backend": "Airflow"},
            )

    async def call(self, function: Callable[Concatenate[ApiClient, float, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a blocking function of (client, timeout in seconds, ...) in the pool.

        A token that Airflow no longer takes is renewed once: after a restart Airflow may have another secret.

        Raises:
            AirflowUnavailableError: Airflow does not answer.
            AirflowHTTPError: Airflow answers with a 4xx.
            PlatformError: BACKEND_FAILED for an answer that makes no sense; DEADLINE_EXCEEDED and OVERLOADED as the pool has it.
        """
        token = await self._tokens.current()
        try:
            return await self._run(token, function, *args, **kwargs)
        except AirflowHTTPError as refused:
            if refused.status not in CREDENTIALS_REFUSED:
                raise
        self._tokens.forget(token)
        return await self._run(await self._tokens.current(), function, *args, **kwargs)

    async def _run(
        self, token: str, function: Callable[Concatenate[ApiClient, float, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        timeout = max(SHORTEST_TIMEOUT, min(self._settings.timeout, remaining(self._settings.timeout)))

        @wraps(function)
        def guarded() -> R:
            client = self._loaded()
            client.configuration.access_token = token
            try:
                return function(client, timeout, *args, **kwargs)
            except Exception as error:
                raise translate(error) from error

        return await self._pool.run(guarded)

    def _loaded(self) -> ApiClient:
        """The client. A load that failed, or that took longer than its caller waited, is no obstacle to the next call."""
        with self._loading:
            if self._client is None:
                try:
                    self._client = self._load()
                except Exception as error:
                    log.exception("airflow_client_not_loaded")
                    raise AirflowUnavailableError(may_have_arrived=False) from error
            return self._client

    def _load(self) -> ApiClient:
        import urllib3  # noqa: PLC0415  # here, because loading the client takes over a second
        from airflow_client.client import ApiClient, Configuration  # noqa: PLC0415

        return ApiClient(
            Configuration(
                host=self._settings.api_url,
                # One retry, and only where it cannot do a thing twice: a connection that Airflow had just closed.
                retries=urllib3.Retry(1, redirect=0),
                connection_pool_maxsize=self._settings.threads,
            )
        )


def _unwell_parts(client: ApiClient, timeout: float) -> list[str]:
    from airflow_client.client.api.dag_api import DAGApi  # noqa: PLC0415
    from airflow_client.client.api.monitor_api import MonitorApi  # noqa: PLC0415

    # Health is told without a token, so something that needs one is asked too.
    DAGApi(client).get_dags(limit=1, _request_timeout=timeout)
    health = MonitorApi(client).get_health(_request_timeout=timeout)
    parts: dict[str, Any] = {"its database": health.metadatabase, "its scheduler": health.scheduler}
    return [f"{name} is {part.status or 'not running'}" for name, part in parts.items() if part.status != "healthy"]
