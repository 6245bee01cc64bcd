"""Sessions that a cancelled call cannot leave half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

T = TypeVar("T")


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """Do the work to its end. A cancellation that comes meanwhile waits for it, and then goes on."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # Retrieved, so that asyncio does not report it as lost.
        raise cancelled
    return task.result()


class Session(AsyncSession):
    """A session whose every statement is done to its end.

    Drivers cannot give up a statement half-way: SQLAlchemy would throw the whole connection away and tell of it in the log.
    """

    async def execute(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  # as AsyncSession has it; callers see its types
        """See AsyncSession."""
        return await finished(super().execute(*args, **options))

    async def scalar(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """See AsyncSession."""
        return await finished(super().scalar(*args, **options))

    async def scalars(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """See AsyncSession."""
        return await finished(super().scalars(*args, **options))

    async def get(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """See AsyncSession."""
        return await finished(super().get(*args, **options))

    async def get_one(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        """See AsyncSession."""
        return await finished(super().get_one(*args, **options))

    async def flush(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
        """See AsyncSession."""
        await finished(super().flush(*args, **options))

    async def commit(self) -> None:
        """See AsyncSession."""
        await finished(super().commit())

    async def rollback(self) -> None:
        """See AsyncSession."""
        await finished(super().rollback())

    async def close(self) -> None:
        """See AsyncSession."""
        await finished(super().close())
