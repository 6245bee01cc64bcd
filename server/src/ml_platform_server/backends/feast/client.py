"""The connection to Feast: the feature store, the threads its blocking calls run in, and a registry that stays fresh."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import structlog

from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.backends.feast import errors
from ml_platform_server.backends.feast.misses import Misses
from ml_platform_server.backends.feast.redis.connection import Address, StoreClient
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.settings import FeastSettings

if TYPE_CHECKING:
    from feast import FeatureStore

log = structlog.get_logger(__name__)
P = ParamSpec("P")
R = TypeVar("R")

LOAD_TIMEOUT = 120.0
MISS_INTERVAL = 0.5
"""Seconds between refreshes for names that are missing: one takes about 0.1 s of the processor, and anyone can ask for a name."""


class FeastBackend:
    """Feast, as the rest of the house reaches it.

    Args:
        settings: which project to serve, how long one of its requests may take, and how many run at once.
    """

    def __init__(self, *, settings: FeastSettings) -> None:
        self._settings = settings
        self._pool = BlockingPool("Feast", threads=settings.threads)
        self._store: FeatureStore | None = None
        self._loading: asyncio.Task[FeatureStore] | None = None
        self._refresher: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        self._refreshed = 0.0
        self._registry_seen: bytes | None = None
        self._followers: list[Callable[[], Awaitable[None]]] = []
        self._direct: StoreClient | None = None
        self.misses = Misses()
        self.generation = 0
        """Grows whenever the registry has changed."""

    async def open(self) -> None:
        """Begin to load the feature store and to keep its registry fresh, without waiting for either: Feast takes seconds."""
        self._refresher = asyncio.create_task(self._keep_fresh())

    async def close(self) -> None:
        """Stop the refreshing and let the threads end."""
        for task in (self._refresher, self._telling, self._loading):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        if self._direct is not None:
            self._direct.close()
        self._pool.close()

    def follow(self, refreshed: Callable[[], Awaitable[None]]) -> None:
        """Have something done at the end of every refresh: the refresh is over when it is done."""
        self._followers.append(refreshed)

    def online_store(self, address: Address) -> StoreClient:
        """The connection to the online store of the readers that do without Feast."""
        if self._direct is None or (self._direct.address is not address and self._direct.address != address):
            if self._direct is not None:
                self._direct.close()
            self._direct = StoreClient(address, timeout=self._settings.timeout)
        return self._direct

    @property
    def timeout(self) -> float:
        """Seconds that one request to the online store may take."""
        return self._settings.timeout

    @property
    def source_roots(self) -> tuple[str, ...]:
        """Where the sources of registered views may lie."""
        return self._settings.source_roots

    async def probe(self) -> None:
        """Read from the registry and from the online store.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE or BACKEND_FAILED if either is not well.
        """
        await self.call(_probe)

    async def call(self, function: Callable[Concatenate[FeatureStore, P], R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something with the feature store in a thread and wait for it until the call's deadline.

        Raises:
            PlatformError: what the function raises, or BACKEND_UNAVAILABLE, BACKEND_FAILED, OVERLOADED, DEADLINE_EXCEEDED.
        """
        store = self._store or await self._loaded()

        @wraps(function)
        def translated() -> R:
            return _translated(lambda: function(store, *args, **kwargs))

        return await self._pool.run(translated)

    async def refresh(self, *, apart: float = 0.0) -> None:
        """Read the registry anew, unless that was begun after this call.

        Args:
            apart: seconds that this must begin after the last refresh began. All who wait share one refresh.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE if the registry does not answer.
        """
        asked = time.monotonic()
        async with self._refreshing:
            if self._refreshed > asked:
                return
            if self._refreshed + apart > asked:
                await asyncio.sleep(self._refreshed + apart - asked)
            begun = time.monotonic()
            seen = await self.call(_refresh)
            if seen is None or seen != self._registry_seen:
                self._registry_seen = seen
                self.generation += 1
            # Outside of the caller's context, and to its end: neither a deadline nor a caller that goes away may cut it short.
            self._telling = asyncio.create_task(self._tell_followers(), context=contextvars.Context())
            await asyncio.shield(self._telling)
            self._refreshed = begun

    async def _tell_followers(self) -> None:
        for refreshed in self._followers:
            await refreshed()

    async def _keep_fresh(self) -> None:
        """Feast's own ways make some caller wait for the refresh, or never stop; so this refreshes, and Feast only caches."""
        while True:
            try:
                await self.refresh()
            except PlatformError as error:
                log.warning("feast_registry_not_refreshed", error=str(error))
            await asyncio.sleep(self._settings.registry_ttl)

    async def _loaded(self) -> FeatureStore:
        if self._loading is None or (self._loading.done() and self._store is None):
            # Outside of the call's context: the loading must not end with the deadline of whoever came first.
            self._loading = asyncio.create_task(self._load(), context=contextvars.Context())
        return await asyncio.shield(self._loading)

    async def _load(self) -> FeatureStore:
        set_deadline(time.monotonic() + LOAD_TIMEOUT)
        self._store = await self._pool.run(_load, self._settings)
        return self._store


def _translated(function: Callable[[], R]) -> R:
    try:
        return function()
    except PlatformError:
        raise
    except Exception as error:
        raise errors.translate(error) from error


def _load(settings: FeastSettings) -> FeatureStore:
    from ml_platform_server.backends.feast import loading  # noqa: PLC0415  # imports Feast: only in the pool

    try:
        return loading.load(Path(settings.config_path), settings.timeout)
    except Exception as error:
        # Whatever is wrong with the configuration or the registry may be put right while the server runs.
        log.warning("feast_not_loaded", config_path=str(settings.config_path), error_type=type(error).__name__, error=str(error))
        raise backend_unavailable("Feast") from error


def _refresh(store: FeatureStore) -> bytes | None:
    """What tells one state of the registry from another; None if nothing does."""
    before = getattr(store.registry, "cached_registry_proto_created", None)
    store.refresh_registry()  # type: ignore[no-untyped-call]  # Feast's types have gaps
    after = getattr(store.registry, "cached_registry_proto_created", None)
    if before is not None and before == after:  # Feast keeps quiet about a registry that does not answer.
        raise backend_unavailable("Feast")
    cached = getattr(store.registry, "cached_registry_proto", None)
    return hashlib.blake2b(cached.SerializeToString(deterministic=True)).digest() if cached is not None else None


def _probe(store: FeatureStore) -> None:
    from ml_platform_server.backends.feast import loading  # noqa: PLC0415  # imports Feast: only in the pool

    loading.touch(store)
