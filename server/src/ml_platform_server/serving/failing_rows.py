"""Finds the rows that a model fails on, so that the others have their answers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, deadline_exceeded

T = TypeVar("T")
_log = structlog.get_logger(__name__)

# Runs of the model for one failed batch, at most. A batch of 256 calls of Predict can be isolated completely within it, so that
# no call fails because of the row of another.
MOST_RUNS = 512


async def isolate_failing_rows(
    run: Callable[[slice], Awaitable[T]], rows: int, *, model: str, error: PlatformError | None = None
) -> list[tuple[slice, T | PlatformError]]:
    """Run a model on rows. If it fails on them, run it on each half, and so on down to single rows, within MOST_RUNS.

    The largest parts come first, so that a budget that runs out leaves small parts behind rather than one half of the rows.
    Between two runs the event loop serves other calls. However many runs fail, one line is logged.

    Args:
        run: runs the model on the rows from a position to before another.
        rows: how many there are.
        model: the model and its version, for the log.
        error: what the model has failed with on all of the rows, if it was run on them already.

    Returns:
        The parts in their order, each with its result or the error that keeps its rows from one. After an error that is not about
        rows, such as a backend that is down, nothing is tried again.
    """
    whole = slice(0, rows)
    if error is None:
        try:
            return [(whole, await run(whole))]
        except PlatformError as failed:
            error = failed
    if not about_rows(error):
        return [(whole, error)]
    found: list[tuple[slice, T | PlatformError]] = [] if rows > 1 else [(whole, error)]
    untried, runs = deque(_halves(whole)), 1
    stop: PlatformError | None = None
    while untried:
        part = untried.popleft()
        stop = stop or _limit(runs)
        if stop is not None:
            found.append((part, stop))
            continue
        await asyncio.sleep(0)
        runs += 1
        try:
            found.append((part, await run(part)))
        except PlatformError as failed:
            if about_rows(failed) and part.stop - part.start > 1:
                untried.extend(_halves(part))
                continue
            found.append((part, failed))
            stop = None if about_rows(failed) else failed
    failed_rows = sum(part.stop - part.start for part, result in found if isinstance(result, PlatformError))
    log_failure(model, error, rows=rows, failed_rows=failed_rows, runs=runs)
    return sorted(found, key=lambda each: each[0].start)


def about_rows(error: PlatformError) -> bool:
    """Whether other rows may have an answer. A model that cannot be loaded has none for any."""
    if error.reason == errors_pb2.ERROR_REASON_MODEL_FAILED:
        return error.metadata.get("stage") != "load"
    return error.reason in (errors_pb2.ERROR_REASON_INPUT_INVALID, errors_pb2.ERROR_REASON_INPUT_REJECTED)


def log_failure(model: str, error: PlatformError, **facts: object) -> None:
    """Log what a model itself says of a failed run, which no caller sees."""
    _log.warning("model_failed", model=model, error=repr(error.__cause__ or error)[:500], **facts)


def _halves(part: slice) -> list[slice]:
    middle = (part.start + part.stop) // 2
    return [slice(part.start, middle), slice(middle, part.stop)] if middle > part.start else []


def _limit(runs: int) -> PlatformError | None:
    """What ends the search after so many runs, if it is to end."""
    if remaining(1.0) <= 0:
        return deadline_exceeded("The prediction")
    if runs < MOST_RUNS:
        return None
    return PlatformError(
        errors_pb2.ERROR_REASON_INPUT_REJECTED,
        "The model failed on a batch with this row, and on too many of its rows to try each of them alone.",
        remedy="Check the inputs against the model's signature and training data, and send fewer rows at once.",
    )
