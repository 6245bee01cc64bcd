"""Why a run ended, or never will, with answers of Airflow that a test makes up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ml_platform_server.backends.airflow import requests
from ml_platform_server.backends.airflow.endings import NOTE, Endings
from ml_platform_server.backends.airflow.errors import AirflowHTTPError
from ml_platform_server.errors import backend_unavailable

START = datetime(2026, 1, 1, tzinfo=UTC)


class Answers:
    """What Airflow answers to each request; an exception is raised."""

    def __init__(self) -> None:
        self.by_request: dict[Callable[..., Any], Any] = {
            requests.read_dag: a_dag(),
            requests.read_details: SimpleNamespace(dag_run_timeout=None),
            requests.read_changes_by_hand: [],
        }
        self.count = 0

    async def call(self, request: Callable[..., Any], *arguments: object) -> Any:
        self.count += 1
        answer = self.by_request[request]
        if isinstance(answer, Exception):
            raise answer
        return answer


def a_dag(*, stale: bool = False, broken: bool = False, age: timedelta = timedelta()) -> Any:
    return SimpleNamespace(is_stale=stale, has_import_errors=broken, last_parsed_time=datetime.now(UTC) - age)


def a_run(*, note: str | None = None, seconds: float = 60.0) -> Any:
    return SimpleNamespace(dag_run_id="mlp-1", note=note, start_date=START, end_date=START + timedelta(seconds=seconds))


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def found(answers: Answers) -> Endings:
    backend: Any = answers
    return Endings(backend=backend)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a test sets."""
    clock = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("ml_platform_server.backends.airflow.endings.time.monotonic", lambda: clock.seconds)
    return clock


@pytest.mark.parametrize("stale", [True, False], ids=["stale", "not found"])
async def test_a_pipeline_that_stays_missing_is_gone(answers: Answers, found: Endings, now: Any, stale: bool) -> None:
    """Not at the first look, because a file that is being replaced is missing for a moment."""
    # Parsed now: by the time that a long run of all tests comes here, what was made when they were collected is old.
    answers.by_request[requests.read_dag] = a_dag(stale=True) if stale else AirflowHTTPError(404, "not found")
    told = []
    for _ in range(6):
        told.append(bool(await found.pipeline_gone("train")))
        now.seconds += 5
    assert told == [False, False, False, False, True, True]


async def test_a_pipeline_that_comes_back_is_not_gone(answers: Answers, found: Endings, now: Any) -> None:
    """And its time begins anew when it is missing again."""
    for stale in (True, False, True, True):
        answers.by_request[requests.read_dag] = a_dag(stale=stale)
        assert await found.pipeline_gone("train") == ""
        now.seconds += 10


async def test_a_pipeline_that_was_missing_long_ago_is_gone_at_once(answers: Answers, found: Endings) -> None:
    """Whoever looks once in a while need not look twice."""
    answers.by_request[requests.read_dag] = a_dag(stale=True, age=timedelta(minutes=11))
    assert await found.pipeline_gone("train") == "its file was removed, so Airflow starts none of the tasks that are left"
    answers.by_request[requests.read_dag] = a_dag(stale=True, broken=True, age=timedelta(minutes=11))
    assert "its file fails to import now" in await found.pipeline_gone("other")


async def test_a_pipeline_is_looked_for_seldom(answers: Answers, found: Endings, now: Any) -> None:
    """However many watch its runs."""
    for _ in range(10):
        await found.pipeline_gone("train")
        now.seconds += 1
    assert answers.count == 2


@pytest.mark.parametrize(
    ("run", "limit", "by_hand", "expected"),
    [
        (a_run(note=f"{NOTE}it took too long"), None, [], "it took too long"),
        (
            a_run(note="mine", seconds=1800),
            "PT30M",
            ["ada"],
            "it ran into its pipeline's time limit of 0:30:00 (dagrun_timeout), the waiting for a place included",
        ),
        (a_run(seconds=1799), "PT30M", ["ada", "bob"], "ada did it by hand in Airflow"),
        (a_run(), None, [None], "somebody did it by hand in Airflow"),
        (a_run(), None, [], ""),
        (a_run(), "nonsense", [], ""),
    ],
)
async def test_who_or_what_ended_a_run_is_told(
    answers: Answers, found: Endings, run: Any, limit: str | None, by_hand: list[str | None], expected: str
) -> None:
    """The platform, a time limit, a person, or nobody whom Airflow names."""
    answers.by_request[requests.read_details] = SimpleNamespace(dag_run_timeout=limit)
    answers.by_request[requests.read_changes_by_hand] = [SimpleNamespace(owner=owner) for owner in by_hand]
    assert await found.ended_by("train", run) == expected


async def test_who_ended_a_run_is_worth_no_failure(answers: Answers, found: Endings) -> None:
    """Airflow's refusal costs the reason alone, and the next look asks again."""
    answers.by_request[requests.read_changes_by_hand] = backend_unavailable("Airflow")
    assert await found.ended_by("train", a_run()) == ""
    answers.by_request[requests.read_changes_by_hand] = [SimpleNamespace(owner="ada")]
    assert await found.ended_by("train", a_run()) == "ada did it by hand in Airflow"
