"""API keys: made once, shown once, kept as a keyed hash, and all live ones known to each process by that hash."""

from __future__ import annotations

import asyncio
import binascii
import contextvars
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import func, select, update

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Principal
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.store.database import Database
from ml_platform_server.store.tables import ApiKeyRow

OnEnded = Callable[[frozenset[str]], None]

_PREFIX = "mlp"
_PARTS = 4
_LONGEST = 200
# Between two looks at the store. Revocation elsewhere takes effect within this time.
REFRESH_SECONDS = 1.0
# However many unknown keys come, they cause no more than one look in this time.
_PAUSE_SECONDS = 0.2
# A change that the counts do not show, such as scopes edited by hand, takes effect within this time.
_RELOAD_SECONDS = 60.0
# An unknown key waits no longer for a store that hangs.
_LOOK_TIMEOUT = 5.0

_log = structlog.get_logger(__name__)


class ApiKeys:
    """The keys. One reads mlp_<id>_<secret>_<checksum>: the checksum shows a typing error at once.

    The process holds the hashes of all live keys, so that a call costs no database read, whether its key is known or guessed. It
    polls the store for changes. A key that it does not know waits for one poll that all unknown keys share. While the store does
    not answer, the keys that were live stay live; their expiry still counts.

    Args:
        database: the platform's database, open.
        pepper: the secret that keys are hashed with; without it the stored hashes are worth nothing.
        refresh_interval: seconds between two polls of the store.
    """

    def __init__(self, *, database: Database, pepper: str, refresh_interval: float = REFRESH_SECONDS) -> None:
        self._database = database
        self._pepper = pepper.encode()
        self._interval = refresh_interval
        self._live: dict[bytes, Principal] = {}
        self._version: tuple[object, ...] | None = None
        self._reload_at = 0.0
        self._refreshed_at = -_PAUSE_SECONDS
        self._refresh: asyncio.Task[None] | None = None
        self._reading = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._on_ended: tuple[OnEnded, ...] = ()
        self._ids: frozenset[str] = frozenset()

    async def open(self) -> None:
        """Read the keys, and poll for changes from now on."""
        await self._read()
        self._tasks = [asyncio.create_task(work, context=contextvars.Context()) for work in (self._poll(), self._sweep())]

    async def close(self) -> None:
        """Stop polling."""
        tasks = [*self._tasks, *([self._refresh] if self._refresh else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def subscribe(self, on_ended: OnEnded) -> None:
        """Have a function called with the ids of keys that were revoked or have expired, as soon as this process knows it."""
        self._on_ended = (*self._on_ended, on_ended)

    def is_live(self, key_id: str) -> bool:
        """Whether a key that this process found before is still live."""
        return key_id in self._ids

    def find(self, key: str) -> Principal | None:
        """The principal of a live key that this process knows, from memory alone."""
        if not _well_formed(key):
            return None
        principal = self._live.get(self._digest(key))
        return None if principal is None or expired(principal) else principal

    async def verify(self, key: str) -> Principal:
        """The principal of a live key. A key that is not known yet waits for a look at the store, which all such keys share.

        Raises:
            PlatformError: CREDENTIALS_INVALID when it is malformed, unknown, expired or revoked; BACKEND_UNAVAILABLE when it is
                not known and the store does not answer.
        """
        principal = self.find(key)
        if principal is None and _well_formed(key):
            await self._look()
            principal = self.find(key)
        if principal is None:
            raise invalid_key()
        return principal

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
        self._replace({digest: principal for digest, principal in self._live.items() if principal.key_id != key_id})
        return True

    async def _look(self) -> None:
        """Wait for a look at the store that begins after this moment."""
        if self._refresh is None:
            # A context of its own: it must not inherit the deadline of the first caller.
            self._refresh = asyncio.create_task(self._look_soon(), context=contextvars.Context())
            self._refresh.add_done_callback(lambda task: task.cancelled() or task.exception())
        try:
            async with asyncio.timeout(_LOOK_TIMEOUT):
                await asyncio.shield(self._refresh)
        except TimeoutError:
            raise backend_unavailable("The platform's own database") from None

    async def _look_soon(self) -> None:
        await asyncio.sleep(self._refreshed_at + _PAUSE_SECONDS - time.monotonic())
        self._refreshed_at = time.monotonic()
        self._refresh = None
        await self._read()

    async def _poll(self) -> None:
        down = False
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._read()
                down = False
            except Exception as error:  # noqa: BLE001  # the next poll may succeed
                if not down:
                    _log.warning("keys_not_refreshed", error=str(error))
                down = True

    async def _sweep(self) -> None:
        """Drop expired keys. Apart from the poll, which a store that hangs would hold up."""
        while True:
            await asyncio.sleep(self._interval)
            self._replace({digest: principal for digest, principal in self._live.items() if not expired(principal)})

    async def _read(self) -> None:
        """Take over the live keys from the store, if anything changed there."""
        async with self._reading, self._database.session() as session:
            changes = select(
                func.count(), func.count(ApiKeyRow.revoke_time), func.max(ApiKeyRow.create_time), func.max(ApiKeyRow.revoke_time)
            ).select_from(ApiKeyRow)
            version = tuple((await session.execute(changes)).one())
            if version == self._version and time.monotonic() < self._reload_at:
                return
            rows = (await session.scalars(select(ApiKeyRow).where(ApiKeyRow.revoke_time.is_(None)))).all()
            self._reload_at = time.monotonic() + _RELOAD_SECONDS
            self._version = version
            self._replace({row.digest: _principal(row) for row in rows})

    def _replace(self, live: dict[bytes, Principal]) -> None:
        """Take over the live keys, and announce those that are live no more or whose scopes changed."""
        ended = frozenset(principal.key_id for digest, principal in self._live.items() if live.get(digest) != principal)
        self._live = live
        self._ids = frozenset(principal.key_id for principal in live.values())
        if ended:
            for on_ended in self._on_ended:
                on_ended(ended)

    def _digest(self, key: str) -> bytes:
        return hmac.digest(self._pepper, key.encode(errors="replace"), "sha256")


def expired(principal: Principal) -> bool:
    """Whether the principal's key has expired."""
    return principal.expire_time is not None and principal.expire_time <= time.time()


def invalid_key() -> PlatformError:
    """The error for a key that is not, or no longer, good for anything."""
    return PlatformError(
        errors_pb2.ERROR_REASON_CREDENTIALS_INVALID,
        "The API key is malformed, unknown, expired or revoked.",
        remedy="Check that the whole key was sent, or ask whoever runs the platform for a new one.",
    )


def _principal(row: ApiKeyRow) -> Principal:
    expire_time = row.expire_time.timestamp() if row.expire_time else None
    return Principal(name=row.principal, key_id=row.key_id, scopes=frozenset(row.scopes), expire_time=expire_time)


def _well_formed(key: str) -> bool:
    if len(key) > _LONGEST or not key.isascii() or key.count("_") != _PARTS - 1:
        return False
    body, _, checksum = key.rpartition("_")
    return body.startswith(f"{_PREFIX}_") and checksum == _checksum(body)


def _checksum(body: str) -> str:
    return f"{binascii.crc32(body.encode()):08x}"
