"""Feature views: register, get, list, and push values to them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ml_platform.v1 import errors_pb2, features_pb2
from ml_platform_server.backends.feast.client import MISS_INTERVAL, FeastBackend
from ml_platform_server.backends.paging import fitting, page_length, position_of, token_after
from ml_platform_server.call import remaining, set_deadline
from ml_platform_server.errors import PlatformError, deadline_exceeded

if TYPE_CHECKING:
    from feast import FeatureStore

R = TypeVar("R")
REGISTRY, ONLINE_STORE = "Feast registry", "Feast online store"
"""The names of the locks on what several processes change."""
CHANGE_TIMEOUT = 60.0

# The entries of a page and the token of the next one.
ViewPage = tuple[list[features_pb2.FeatureView], str]

PERHAPS_NEW = frozenset({
    errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND,
})  # fmt: skip


class Locks(Protocol):
    """What keeps processes from changing the same thing at once."""

    def hold(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold a lock in a block."""


class FeatureViews:
    """What FeatureService and the jobs ask of Feast's registry.

    Args:
        backend: the connection to Feast.
        locks: locks that hold in every process which serves this project.
    """

    def __init__(self, *, backend: FeastBackend, locks: Locks) -> None:
        self._backend = backend
        self._locks = locks
        self._changes: set[asyncio.Task[Any]] = set()
        self._pushes_need_lock: bool | None = None

    async def register(self, view: features_pb2.FeatureView) -> features_pb2.FeatureView:
        """Register a view and the entities that it needs; the same definition again changes nothing.

        When this is over, whatever this process reads and pushes goes by the new registry.

        Raises:
            PlatformError: FEATURE_VIEW_EXISTS, ENTITY_EXISTS, FEATURE_SOURCE_REFUSED, INVALID_FIELDS.
        """

        async def register() -> features_pb2.FeatureView:
            registered = await self._backend.call(_register, view, self._backend.source_roots)
            # Another tool may have taken away a view of this name a moment ago, and the cached registry has that one still.
            await self._backend.refresh()
            self._backend.misses.clear()
            return registered

        # Two at once would both find the name free.
        return await self._alone(REGISTRY, register)

    async def get(self, name: str) -> features_pb2.FeatureView:
        """One view.

        Raises:
            PlatformError: FEATURE_VIEW_NOT_FOUND.
        """
        return await looked_up(self._backend, lambda: self._backend.call(_find, name))

    async def list(self, page_size: int = 0, page_token: str = "") -> ViewPage:
        """A page of the views, by name, and the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        after, length = position_of(page_token, "feature views"), page_length(page_size)
        views = [view for view in await self._backend.call(_find_all) if view.name > after]
        page = views[: min(length, fitting(views))]
        return page, token_after(page[-1].name, "feature views") if len(views) > len(page) else ""

    async def push(self, request: features_pb2.PushFeaturesRequest) -> features_pb2.PushFeaturesResponse:
        """Write rows into the online store. A row that is older than what the store has is skipped; the response says so.

        Raises:
            PlatformError: FEATURE_VIEW_NOT_FOUND, FEATURE_NOT_FOUND, ENTITY_MISMATCH, FEATURE_VALUE_INVALID.
        """
        if self._pushes_need_lock is None:
            self._pushes_need_lock = await self._backend.call(_pushes_need_lock)

        def push() -> Awaitable[features_pb2.PushFeaturesResponse]:
            return looked_up(self._backend, lambda: self._backend.call(_push, request))

        return await (self._alone(ONLINE_STORE, push) if self._pushes_need_lock else push())

    async def _alone(self, lock: str, change: Callable[[], Awaitable[R]]) -> R:
        """Make a change while no other process makes one. It goes on to its end, under the lock, even if the caller leaves."""
        task = asyncio.create_task(self._make(lock, change))
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        try:
            async with asyncio.timeout(remaining(CHANGE_TIMEOUT)):
                return await asyncio.shield(task)
        except TimeoutError:
            raise deadline_exceeded("The change in Feast") from None

    async def _make(self, lock: str, change: Callable[[], Awaitable[R]]) -> R:
        async with self._locks.hold(lock):
            # A thread cannot be stopped, so the caller's deadline must not release the lock before it is done.
            set_deadline(time.monotonic() + CHANGE_TIMEOUT)
            return await change()


async def looked_up(backend: FeastBackend, look: Callable[[], Awaitable[R]]) -> R:
    """Look something up in the registry, and in a fresh one before it counts as missing: another process may have made it.

    What was missing in a fresh one a moment ago is missing still, so that nobody keeps the processor busy by asking for it.
    """
    try:
        return await look()
    except PlatformError as error:
        if error.reason not in PERHAPS_NEW or backend.misses.has(error.resource):
            raise
    await backend.refresh(apart=MISS_INTERVAL)
    try:
        return await look()
    except PlatformError as error:
        if error.reason in PERHAPS_NEW:
            backend.misses.add(error.resource)
        raise


# Each of these runs in the pool, where importing Feast may take its seconds.


def _register(store: FeatureStore, view: features_pb2.FeatureView, places: Sequence[str]) -> features_pb2.FeatureView:
    from ml_platform_server.backends.feast.registry import register  # noqa: PLC0415  # see above

    return register.register(store, view, places)


def _find(store: FeatureStore, name: str) -> features_pb2.FeatureView:
    from ml_platform_server.backends.feast.registry import register  # noqa: PLC0415  # see above

    return register.find(store, name)


def _find_all(store: FeatureStore) -> list[features_pb2.FeatureView]:
    from ml_platform_server.backends.feast.registry import register  # noqa: PLC0415  # see above

    return register.find_all(store)


def _push(store: FeatureStore, request: features_pb2.PushFeaturesRequest) -> features_pb2.PushFeaturesResponse:
    from ml_platform_server.backends.feast.registry import push  # noqa: PLC0415  # see above

    return push.push(store, request)


def _pushes_need_lock(store: FeatureStore) -> bool:
    from ml_platform_server.backends.feast.writes import conditional  # noqa: PLC0415  # see above

    return not conditional.is_atomic(store)
