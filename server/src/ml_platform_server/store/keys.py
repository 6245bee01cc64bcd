"""API keys: made once, shown once, kept as a keyed hash."""

from __future__ import annotations

import binascii
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from sqlalchemy import select, update

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Principal
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database
from ml_platform_server.store.tables import ApiKeyRow

T = TypeVar("T")

_PREFIX = "mlp"
_PARTS = 4
_LONGEST = 200
_CACHE_SECONDS = 20.0
_CACHE_SIZE = 10_000


class ApiKeys:
    """The keys. One reads mlp_<id>_<secret>_<checksum>: the id finds its row, the checksum tells a typing error at once.

    What was verified is remembered for half a minute, so a revoked key may work that much longer. No key is kept in
    memory: the cache is keyed by the hash.

    Args:
        database: the platform's database, open.
        pepper: the secret that keys are hashed with; without it the stored hashes are worth nothing.
        clock: seconds that only grow.
    """

    def __init__(self, *, database: Database, pepper: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._pepper = pepper.encode()
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._unknown: OrderedDict[bytes, float] = OrderedDict()

    async def create(self, principal: str, scopes: frozenset[int], expires: timedelta | None = None) -> tuple[str, ApiKeyRow]:
        """Make a key and return its text, which cannot be had again, and its row."""
        key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
        body = f"{_PREFIX}_{key_id}_{secret}"
        key = f"{body}_{_checksum(body)}"
        now = datetime.now(UTC)
        row = ApiKeyRow(
            key_id=key_id,
            principal=principal,
            digest=self._digest(key),
            scopes=sorted(scopes),
            create_time=now,
            expire_time=now + expires if expires else None,
        )
        async with self._database.session() as session:
            session.add(row)
        return key, row

    async def verify(self, key: str) -> Principal:
        """Find out whose key this is.

        Raises:
            PlatformError: API_KEY_INVALID when it is malformed, unknown, expired or revoked.
        """
        digest = self._digest(key)
        now = self._clock()
        entry = self._known.get(digest)
        if entry is None or entry[0] <= now:
            entry = (now + _CACHE_SECONDS, await self._look_up(key, digest, now))
            _remember(self._known, digest, entry)
        principal = entry[1]
        if principal.expire_time is not None and principal.expire_time <= time.time():
            raise _invalid()
        return principal

    async def list(self) -> Sequence[ApiKeyRow]:
        """Every key, oldest first, revoked and expired ones included."""
        async with self._database.session() as session:
            return (await session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.create_time, ApiKeyRow.key_id))).all()

    async def revoke(self, key_id: str) -> bool:
        """End a key for good. False if there is no such key; a key that was revoked before keeps its time."""
        async with self._database.session() as session:
            if await session.get(ApiKeyRow, key_id) is None:
                return False
            ended = update(ApiKeyRow).where(ApiKeyRow.key_id == key_id, ApiKeyRow.revoke_time.is_(None))
            await session.execute(ended.values(revoke_time=datetime.now(UTC)))
        self._known.clear()
        return True

    async def _look_up(self, key: str, digest: bytes, now: float) -> Principal:
        if not _well_formed(key) or self._unknown.get(digest, 0.0) > now:
            raise _invalid()
        async with self._database.session() as session:
            row = await session.get(ApiKeyRow, key.split("_")[1])
        if row is None or not hmac.compare_digest(row.digest, digest) or row.revoke_time is not None:
            _remember(self._unknown, digest, now + _CACHE_SECONDS)
            raise _invalid()
        expire_time = row.expire_time.timestamp() if row.expire_time else None
        return Principal(name=row.principal, key_id=row.key_id, scopes=frozenset(row.scopes), expire_time=expire_time)

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode(errors="replace"), "sha256")


def _well_formed(key: str) -> bool:
    if len(key) > _LONGEST or not key.isascii() or key.count("_") != _PARTS - 1:
        return False
    body, _, checksum = key.rpartition("_")
    return body.startswith(f"{_PREFIX}_") and checksum == _checksum(body)


def _checksum(body: str) -> str:
    return f"{binascii.crc32(body.encode()):08x}"


def _remember(cache: OrderedDict[bytes, T], digest: bytes, entry: T) -> None:
    """Keep an entry, and let go of the oldest when there are too many."""
    cache[digest] = entry
    cache.move_to_end(digest)
    if len(cache) > _CACHE_SIZE:
        cache.popitem(last=False)


def _invalid() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_API_KEY_INVALID,
        "The API key is malformed, unknown, expired or revoked.",
        remedy="Check that the whole key was sent, or ask whoever runs the platform for a new one.",
    )
