"""The server's frame in the test's own process, on a free port, with a store of its own and no backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health

from ml_platform_server import scopes
from ml_platform_server.grpc_server import GrpcServer
from ml_platform_server.services.health import HealthServicer
from ml_platform_server.settings import ServerSettings
from ml_platform_server.store.database import Database
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.keys import ApiKeys


@dataclass
class Frame:
    """A running server, a channel to it, a key that may do everything, and what the server stands on."""

    server: GrpcServer
    channel: grpc.aio.Channel
    key: str
    keys: ApiKeys
    calls: IdempotencyStore
    database: Database
    health: health.aio.HealthServicer

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call with the key brings."""
        return (("authorization", f"Bearer {self.key}"),)


def sqlite_url(folder: Path) -> str:
    """The URL of the SQLite store in a folder."""
    return f"sqlite+aiosqlite:///{folder}/store.db"


@asynccontextmanager
async def opened_database(folder: Path) -> AsyncIterator[Database]:
    """A migrated SQLite database in a folder."""
    async with opened_store(sqlite_url(folder)) as database:
        yield database


@asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[Database]:
    """A migrated database of either kind."""
    database = Database(url=url)
    await database.open()
    try:
        await database.migrate()
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def running_frame(
    folder: Path,
    services: Sequence[tuple[ServiceDescriptor, object]],
    *,
    default_deadline: float = 30.0,
    health_servicer: health.aio.HealthServicer | None = None,
    **server_settings: Any,
) -> AsyncIterator[Frame]:
    """Serve the services given, until the block ends."""
    async with opened_database(folder) as database:
        keys, calls = ApiKeys(database=database, pepper="a pepper"), IdempotencyStore(database=database)
        servicer = health_servicer or HealthServicer()
        settings = ServerSettings(port=0, default_deadline=default_deadline, **server_settings)
        server = GrpcServer(settings=settings)
        await server.open()
        await server.serve(services, keys=keys, calls=calls, health_servicer=servicer)
        key, _ = await keys.create("somebody", scopes.parse(["all"]))
        await keys.open()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Frame(server, channel, key, keys, calls, database, servicer)
        finally:
            await server.stop(grace=0.1)
            await keys.close()
