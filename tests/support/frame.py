"""The server's frame in the test's own process, on a free port, with a store of its own and no backend."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ml_platform_server import scopes
from ml_platform_server.rpc_server import RpcServer
from ml_platform_server.settings import ServerSettings
from ml_platform_server.store.database import Database
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.keys import ApiKeys
from ml_platform_server.transport.grpc_aio.transport import GrpcAioTransport
from ml_platform_server.transport.port import Transport


@dataclass
class Frame:
    """A running server, a channel to it, a key that may do everything, and what the server stands on."""

    server: RpcServer
    channel: grpc.aio.Channel
    key: str
    keys: ApiKeys
    calls: IdempotencyStore
    database: Database

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call with the key brings."""
        return (("authorization", f"Bearer {self.key}"),)


def sqlite_url(folder: Path) -> str:
    """The URL of the SQLite store in a folder."""
    return f"sqlite+aiosqlite:///{folder}/store.db"


TRANSPORTS: Mapping[str, Callable[[ServerSettings], Transport]] = {
    "grpc_aio": lambda settings: GrpcAioTransport(settings=settings),
}
"""The transports by name. tests/rpc is what each has to pass: ML_PLATFORM_TEST_TRANSPORT=grpc_aio pytest tests/rpc."""


def rpc_server(settings: ServerSettings) -> RpcServer:
    """A server on the transport under test."""
    transport = TRANSPORTS[os.environ.get("ML_PLATFORM_TEST_TRANSPORT", "grpc_aio")]
    return RpcServer(settings=settings, transport=transport(settings))


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
    **server_settings: Any,
) -> AsyncIterator[Frame]:
    """Serve the services given, until the block ends."""
    async with opened_database(folder) as database:
        keys, calls = ApiKeys(database=database, pepper="a pepper"), IdempotencyStore(database=database)
        settings = ServerSettings(port=0, default_deadline=default_deadline, **server_settings)
        server = rpc_server(settings)
        await server.open()
        await server.serve(services, keys=keys, calls=calls)
        key, _ = await keys.create("somebody", scopes.parse(["all"]))
        await keys.open()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Frame(server, channel, key, keys, calls, database)
        finally:
            await server.stop(grace=0.1)
            await keys.close()
