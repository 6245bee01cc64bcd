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

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database
from ml_platform_server.store.tables import DoneCallRow

# Seconds after which a call without an answer counts as lost with its process.
TAKEOVER = 60.0
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
class Ticket:
    """The right to do a call's work. Its time tells it from the ticket of a call that took over later."""

    key: CallKey
    time: datetime


def _now() -> datetime:
    return datetime.now(UTC)


class DoneCalls:
    """Keeps who does a call's work and what came of it.

    Args:
        database: the platform's database, open.
        now: the clock.
    """

    def __init__(self, *, database: Database, now: Callable[[], datetime] = _now) -> None:
        self._database = database
        self._now = now
        self._pruning: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to forget old answers, now and every hour."""
        self._pruning = asyncio.create_task(self._prune_forever(), name="prune done calls")

    async def close(self) -> None:
        """Stop forgetting."""
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait([self._pruning])

    async def begin(self, key: CallKey, fingerprint: bytes) -> Ticket | bytes | None:
        """Ask for the right to do a call's work.

        Args:
            key: the call.
            fingerprint: a hash of the whole request.

        Returns:
            A ticket if the work is to be done now, the answer if it was done, or None if another call is doing it.

        Raises:
            PlatformError: REQUEST_ID_REUSED when the request_id came with another request before.
        """
        ticket = Ticket(key, self._now())
        try:
            async with self._database.session() as session:
                session.add(_row(ticket, fingerprint))
        except IntegrityError:
            return await self._look(ticket, fingerprint)
        return ticket

    async def finish(self, ticket: Ticket, response: bytes) -> None:
        """Keep the answer."""
        async with self._database.session() as session:
            await session.execute(update(DoneCallRow).where(*_held(ticket)).values(response=response))

    async def abandon(self, ticket: Ticket) -> None:
        """Forget a call that failed, so that a repeat may try."""
        async with self._database.session() as session:
            await session.execute(delete(DoneCallRow).where(*_held(ticket)))

    async def prune(self) -> int:
        """Forget the answers that are too old, and say how many."""
        async with self._database.session() as session:
            return await _count(session, delete(DoneCallRow).where(DoneCallRow.create_time < self._now() - KEPT))

    async def _prune_forever(self) -> None:
        while True:
            try:
                await self.prune()
            except PlatformError as error:
                _log.warning("answers_not_pruned", error=error.message)
            await asyncio.sleep(_PRUNE_INTERVAL)

    async def _look(self, ticket: Ticket, fingerprint: bytes) -> Ticket | bytes | None:
        key = ticket.key
        async with self._database.session() as session:
            row = await session.get(DoneCallRow, (key.principal, key.method, key.request_id))
            if row is None:
                return None  # Abandoned just now: the next attempt gets the ticket.
            if row.fingerprint != fingerprint:
                raise _reused(key.request_id)
            if row.response is not None:
                return row.response
            if ticket.time - row.create_time < timedelta(seconds=TAKEOVER):
                return None
            lost = Ticket(key, row.create_time)
            taken = await _count(session, update(DoneCallRow).where(*_held(lost)).values(create_time=ticket.time))
            return ticket if taken else None


def _row(ticket: Ticket, fingerprint: bytes) -> DoneCallRow:
    key = ticket.key
    return DoneCallRow(
        principal=key.principal, method=key.method, request_id=key.request_id, fingerprint=fingerprint, create_time=ticket.time
    )


def _held(ticket: Ticket) -> list[ColumnElement[bool]]:
    """What is true of the row as long as the ticket is good."""
    key = ticket.key
    return [
        DoneCallRow.principal == key.principal,
        DoneCallRow.method == key.method,
        DoneCallRow.request_id == key.request_id,
        DoneCallRow.create_time == ticket.time,
        DoneCallRow.response.is_(None),
    ]


async def _count(session: AsyncSession, statement: Update | Delete) -> int:
    return cast("CursorResult[Any]", await session.execute(statement)).rowcount


def _reused(request_id: str) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        f"The request_id '{request_id}' was used before for a call with other contents.",
        remedy="Use a new request_id for a new call; repeat a call unchanged.",
    )
