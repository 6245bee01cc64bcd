"""The records of jobs: who submitted what, and the state of each when it was last polled."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import defer
from sqlalchemy.orm.attributes import set_committed_value

from ml_platform.v1.jobs_pb2 import JobKind, JobState
from ml_platform_server.store.database import Database
from ml_platform_server.store.paging import Page
from ml_platform_server.store.tables import JobRow


class JobRecords:
    """The jobs table."""

    def __init__(self, *, database: Database) -> None:
        self._database = database

    async def add(self, row: JobRow) -> bool:
        """Keep a new job; False if one of this id is kept already."""
        try:
            async with self._database.session() as session:
                session.add(row)
        except IntegrityError:
            return False
        return True

    async def get(self, job_id: str) -> JobRow | None:
        """One job."""
        async with self._database.session() as session:
            return await session.get(JobRow, job_id)

    async def list(
        self, page: Page, *, experiment_name: str = "", kind: JobKind.ValueType | None = None
    ) -> tuple[list[JobRow], str]:
        """A page of jobs, newest first and without their outcomes, and the token of the next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        query = select(JobRow)
        if experiment_name:
            query = query.where(JobRow.experiment_name == experiment_name)
        if kind:
            query = query.where(JobRow.kind == kind)
        query = page.select(query, JobRow.create_time, JobRow.job_id)
        async with self._database.session() as session:
            # A list returns no outcomes, which take far more room than the rest of a thousand rows.
            rows = (await session.scalars(query.options(defer(JobRow.outcome)))).all()
        for row in rows:
            set_committed_value(row, "outcome", None)
        return page.cut(rows, lambda row: (row.create_time, row.job_id))

    async def refresh(self, job_id: str, *, state: JobState.ValueType, message: str, end_time: datetime | None) -> None:
        """Remember how a job stands; an outcome that was kept is none any more."""
        change = {"state": state, "message": message, "end_time": end_time, "outcome": None}
        await self._change(job_id, change)

    async def keep_outcome(self, job_id: str, outcome: bytes) -> None:
        """Keep how a job ended, in full."""
        await self._change(job_id, {"outcome": outcome})

    async def _change(self, job_id: str, values: dict[str, Any]) -> None:
        change = update(JobRow).where(JobRow.job_id == job_id).values(**values)
        async with self._database.session() as session:
            await session.execute(change)

    async def remove(self, job_id: str) -> None:
        """Forget a job that never was."""
        async with self._database.session() as session:
            await session.execute(delete(JobRow).where(JobRow.job_id == job_id))

    async def count_since(self, kind: JobKind.ValueType, since: datetime) -> int:
        """How many jobs of a kind were submitted since then."""
        query = select(func.count()).select_from(JobRow).where(JobRow.kind == kind, JobRow.create_time >= since)
        async with self._database.session() as session:
            return (await session.scalar(query)) or 0
