"""How the rows that a model fails on are found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
import structlog
from structlog.testing import capture_logs

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError, backend_unavailable
from ml_platform_server.serving import failing_rows
from ml_platform_server.serving.failing_rows import MOST_RUNS, isolate_failing_rows
from tests.support.serving import error


class Model:
    """Gives a part's positions; fails where `bad` holds for one of them. Remembers its runs."""

    def __init__(self, bad: Callable[[int], bool]) -> None:
        self.bad = bad
        self.runs: list[slice] = []

    async def run(self, part: slice) -> list[int]:
        self.runs.append(part)
        if any(map(self.bad, range(part.start, part.stop))):
            raise error(errors_pb2.ERROR_REASON_MODEL_FAILED)
        return list(range(part.start, part.stop))


async def isolated(model: Model, rows: int) -> tuple[list[int], list[int]]:
    """The rows with answers and those without, in the order of the parts."""
    answered: list[int] = []
    failed: list[int] = []
    for part, result in await isolate_failing_rows(model.run, rows, model="m/1"):
        if isinstance(result, PlatformError):
            failed += range(part.start, part.stop)
        else:
            assert result == list(range(part.start, part.stop))
            answered += result
    return answered, failed


@pytest.mark.parametrize("bad", [set(), {0}, {2047}, {5, 6, 1000, 1001, 1023, 1024}, set(range(0, 2048, 64))], ids=len)
async def test_only_the_bad_rows_have_errors(bad: set[int]) -> None:
    """However they lie, every other row has its answer, in order."""
    answered, failed = await isolated(Model(bad.__contains__), 2048)
    assert failed == sorted(bad)
    assert answered == [row for row in range(2048) if row not in bad]


async def test_a_full_batch_of_calls_is_isolated_completely() -> None:
    """With 256 rows the budget lasts even if every second row is bad, so no call fails because of another's row."""
    answered, failed = await isolated(Model(lambda row: row % 2 == 0), 256)
    assert (answered, failed) == (list(range(1, 256, 2)), list(range(0, 256, 2)))


async def test_a_model_that_fails_on_everything_is_run_a_bounded_number_of_times() -> None:
    """Each of 2,048 rows has an error, and there is one log line, which tells the runs."""
    structlog.reset_defaults()
    model = Model(lambda row: True)
    with capture_logs() as logs:
        answered, failed = await isolated(model, 2048)
    assert (answered, failed) == ([], list(range(2048)))
    assert len(model.runs) == MOST_RUNS
    (line,) = logs
    assert (line["event"], line["rows"], line["failed_rows"], line["runs"]) == ("model_failed", 2048, 2048, MOST_RUNS)


async def test_a_budget_that_ends_leaves_small_parts_untried() -> None:
    """With 120 bad rows in 2,048 the budget ends, and most of the others are answered, in both halves."""
    answered, failed = await isolated(Model(lambda row: row % 17 == 7), 2048)
    assert sorted(answered + failed) == list(range(2048))
    assert min(sum(row < 1024 for row in answered), sum(row >= 1024 for row in answered)) > 500


async def test_other_calls_run_between_two_runs() -> None:
    """The event loop turns between any two runs, however quickly they fail."""
    turns = 0
    model = Model(lambda row: True)

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await isolated(model, 256)
    turning.cancel()
    assert turns >= len(model.runs) - 1


async def test_nothing_is_tried_again_when_a_backend_is_down() -> None:
    """The error of a backend ends the search; rows that were not tried have it too."""
    model = Model(lambda row: True)

    async def run(part: slice) -> list[int]:
        if len(model.runs) == 3:
            raise backend_unavailable("BentoML")
        return await model.run(part)

    found = await isolate_failing_rows(run, 64, model="m/1")
    reasons = {result.reason_name for _, result in found if isinstance(result, PlatformError)}
    assert (len(model.runs), reasons) == (3, {"BACKEND_UNAVAILABLE"})
    assert sum(part.stop - part.start for part, _ in found) == 64


async def test_the_search_ends_with_the_deadline() -> None:
    """Rows that were not tried by then are told so; the model is not run for nobody."""
    set_deadline(time.monotonic() + 3600)
    model = Model(lambda row: True)

    async def run(part: slice) -> list[int]:
        if len(model.runs) == 10:
            set_deadline(time.monotonic() - 1)
        return await model.run(part)

    found = await isolate_failing_rows(run, 2048, model="m/1")
    assert len(model.runs) == 11
    assert {result.reason_name for _, result in found if isinstance(result, PlatformError)} == {"DEADLINE_EXCEEDED"}


async def test_what_a_model_says_is_logged_and_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log line has the cause of the first failure."""
    lines: list[dict[str, object]] = []
    monkeypatch.setattr(
        failing_rows._log, "warning", lambda event, **log_fields: lines.append({"event": event, **log_fields}), raising=False
    )

    async def run(part: slice) -> None:
        raise error(errors_pb2.ERROR_REASON_MODEL_FAILED) from ValueError("unknown category 'x'")

    await isolate_failing_rows(run, 8, model="m/1")
    assert [(line["model"], line["error"]) for line in lines] == [("m/1", """ValueError("unknown category 'x'")""")]
