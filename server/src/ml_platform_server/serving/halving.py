"""Finds the rows that a model fails on, so that the others have their answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError

T = TypeVar("T")


async def by_halves(run: Callable[[slice], Awaitable[T]], rows: int, start: int = 0) -> list[tuple[slice, T | PlatformError]]:
    """Run a model on rows. If it fails on them, run it on each half, and so on down to single rows.

    Args:
        run: runs the model on the rows from a position to before another.
        rows: how many there are.
        start: the position of the first.

    Returns:
        The parts in their order, with what the model said of each or the error that keeps each of its rows from an answer. After
        an error that is not about rows, such as a backend that is down, nothing is tried again.
    """
    part = slice(start, start + rows)
    try:
        return [(part, await run(part))]
    except PlatformError as error:
        return await after(error, run, rows, start)


async def after(
    error: PlatformError, run: Callable[[slice], Awaitable[T]], rows: int, start: int = 0
) -> list[tuple[slice, T | PlatformError]]:
    """What `by_halves` gives for rows that the model has just failed on, with this error."""
    if rows == 1 or error.reason != errors_pb2.ERROR_REASON_MODEL_FAILED:
        return [(slice(start, start + rows), error)]
    half = rows // 2
    return [*await by_halves(run, half, start), *await by_halves(run, rows - half, start + half)]
