"""The answers to mutating calls, kept by request_id so that a repeat gets the first one again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import structlog
from sqlalchemy import CursorResult, Delete, Update, delete, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.elements import ColumnElement

from ml_platform_server.errors import PlatformError, request_id_reused
from ml_platform_server.store.database import Database
from ml_platform_server.store.owners import has_ended, this_process
from ml_platform_server.store.tables import DoneCallRow

# Seconds without a renewal after which a call without an answer counts as lost with its process. Where the process is known to
# have ended, nothing is waited for. Clocks of replicas must agree within the difference of the two.
LEASE_TIMEOUT = 10.0
RENEW_INTERVAL = 2.0
# When to ask again for the answer of a call that is being worked on.
_POLL_SECONDS = 1.0
KEPT = timedelta(hours=24)
_PRUNE_INTERVAL = 3600.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CallKey:
    """Whose call it is, of which method, under which request_id."""

    principal: str
    method: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do a call's work. Its time distinguishes it from the lease of a call that took over later."""

    key: CallKey
    time: datetime


@dataclass(frozen=True, slots=True)
class InProgress:
    """Another call does the work.

    Attributes:
        retry_after: seconds until it is worth asking again: until the lease ends if its owner has stopped to renew it.
    """

    retry_after: float


def _now() -> datetime:
    return datetime.now(UTC)


class IdempotencyStore:
    """Keeps who does a call's work and what came of it.

    Args:
        database: the platform's database, open.
        now: the clock.
        owner: the identity of this process.
    """

    def __init__(self, *, database: Database, now: Callable[[], datetime] = _now, owner: str | None = None) -> None:
        self._database = database
        self._now = now
        self._owner = this_process() if owner is None else owner
        self._leases: set[Lease] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Begin to renew leases, and to forget old answers: now and every hour."""
        self._tasks = [
            asyncio.create_task(self._prune_forever(), name="prune done calls"),
            asyncio.create_task(self._renew_forever(), name="renew leases of calls"),
        ]

    async def close(self) -> None:
        """Stop both."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def acquire(self, key: CallKey, fingerprint: bytes) -> Lease | bytes | InProgress:
        """Ask for the right to do a call's work.

        Args:
            key: the call.
            fingerprint: a hash of the whole request.

        Returns:
            A ticket if the work is to be done now, the answer if it was done, or that another call is doing it.

        Raises:
            PlatformError: REQUEST_ID_REUSED when the request_id came with another request before.
        """
        lease = Lease(key, self._now())
        try:
            async with self._database.session() as session:
                session.add(_row(lease, fingerprint, self._owner))
        except IntegrityError:
            return await self._look(lease, fingerprint)
        self._leases.add(lease)
        return lease

    async def complete(self, lease: Lease, response: bytes) -> None:
        """Keep the answer."""
        self._leases.discard(lease)
        async with self._database.session() as session:
            await session.execute(update(DoneCallRow).where(*_held(lease)).values(response=response))

    async def release(self, lease: Lease) -> None:
        """Forget a call that failed, so that a repeat may try."""
        self._leases.discard(lease)
        async with self._database.session() as session:
            await session.execute(delete(DoneCallRow).where(*_held(lease)))

    async def renew(self) -> None:
        """Renew the leases of the calls that this process works on."""
        leases = tuple(self._leases)
        if not leases:
            return
        async with self._database.session() as session:
            for lease in leases:
                await session.execute(update(DoneCallRow).where(*_held(lease)).values(lease_time=self._now()))

    async def prune(self) -> int:
        """Delete the responses that are too old. Returns how many."""
        async with self._database.session() as session:
            return await _count(session, delete(DoneCallRow).where(DoneCallRow.create_time < self._now() - KEPT))

    async def _prune_forever(self) -> None:
        while True:
            try:
                await self.prune()
            except PlatformError as error:
                _log.warning("idempotency_prune_failed", error=error.message)
            await asyncio.sleep(_PRUNE_INTERVAL)

    async def _renew_forever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_INTERVAL)
            try:
                await self.renew()
            except PlatformError as error:
                _log.warning("leases_not_renewed", error=error.message)

    async def _look(self, lease: Lease, fingerprint: bytes) -> Lease | bytes | InProgress:
        key = lease.key
        async with self._database.session() as session:
            row = await session.get(DoneCallRow, (key.principal, key.method, key.request_id))
            if row is None:
                return InProgress(0.0)  # Abandoned just now: the next attempt gets the ticket.
            if row.fingerprint != fingerprint:
                raise _reused(key.request_id)
            if row.response is not None:
                return row.response
            lease_time = row.lease_time or row.create_time
            age = (lease.time - lease_time).total_seconds()
            if age < LEASE_TIMEOUT and not has_ended(row.owner):
                renewed = age < 2 * RENEW_INTERVAL
                return InProgress(_POLL_SECONDS if renewed else LEASE_TIMEOUT - age)
            lost = (*_held(Lease(key, row.create_time)), DoneCallRow.lease_time.is_not_distinct_from(row.lease_time))
            values = {"create_time": lease.time, "lease_time": lease.time, "owner": self._owner}
            if not await _count(session, update(DoneCallRow).where(*lost).values(values)):
                return InProgress(_POLL_SECONDS)
        self._leases.add(lease)
        return lease


def _row(lease: Lease, fingerprint: bytes, owner: str) -> DoneCallRow:
    key = lease.key
    return DoneCallRow(
        principal=key.principal,
        method=key.method,
        request_id=key.request_id,
        fingerprint=fingerprint,
        create_time=lease.time,
        owner=owner,
        lease_time=lease.time,
    )


def _held(lease: Lease) -> list[ColumnElement[bool]]:
    """What is true of the row as long as the lease is good."""
    key = lease.key
    return [
        DoneCallRow.principal == key.principal,
        DoneCallRow.method == key.method,
        DoneCallRow.request_id == key.request_id,
        DoneCallRow.create_time == lease.time,
        DoneCallRow.response.is_(None),
    ]


async def _count(session: AsyncSession, statement: Update | Delete) -> int:
    return cast("CursorResult[Any]", await session.execute(statement)).rowcount


def _reused(request_id: str) -> PlatformError:
    return request_id_reused(
        f"The request_id '{request_id}' was used before for a call with other contents.",
        remedy="Use a new request_id for a new call; repeat a call unchanged.",
    )
