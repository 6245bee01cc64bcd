"""What is remembered of jobs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ml_platform.v1 import jobs_pb2
from ml_platform.v1.jobs_pb2 import JobKind
from ml_platform_server.backends.paging import token_after
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.paging import Page
from ml_platform_server.store.tables import JobRow
from tests.support.frame import opened_store

TRAINING = jobs_pb2.JOB_KIND_TRAINING
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def records(store_url: str) -> AsyncIterator[JobRecords]:
    async with opened_store(store_url) as database:
        yield JobRecords(database=database)


def row(number: int, *, seconds: int = 0, kind: JobKind.ValueType = TRAINING, experiment: str = "churn") -> JobRow:
    return JobRow(
        job_id=f"mlp-{number}",
        kind=kind,
        pipeline="train",
        state=jobs_pb2.JOB_STATE_QUEUED,
        experiment_name=experiment,
        conf={"n": number},
        submitted_by="ada",
        create_time=START + timedelta(seconds=seconds),
    )


async def test_a_job_is_kept_once(records: JobRecords) -> None:
    """Adding a job of the same id says that it is known, and changes nothing."""
    assert (await records.add(row(1)), await records.add(row(1, experiment="other"))) == (True, False)
    kept = await records.get("mlp-1")
    assert kept is not None
    assert (kept.experiment_name, kept.conf, kept.create_time) == ("churn", {"n": 1}, START)


async def test_a_refreshed_state_is_remembered_and_a_removed_job_is_not(records: JobRecords) -> None:
    """State, message and end are as last seen; a job that never started leaves no trace."""
    await records.add(row(1))
    await records.refresh("mlp-1", state=jobs_pb2.JOB_STATE_SUCCESS, message="done", end_time=START)
    kept = await records.get("mlp-1")
    assert kept is not None
    assert (kept.state, kept.message, kept.end_time) == (jobs_pb2.JOB_STATE_SUCCESS, "done", START)
    await records.remove("mlp-1")
    assert await records.get("mlp-1") is None


async def test_an_outcome_is_kept_until_the_job_runs_again(records: JobRecords) -> None:
    """Lists come without it, for it takes much room."""
    await records.add(row(1))
    await records.keep_outcome("mlp-1", b"the whole job")
    kept = await records.get("mlp-1")
    assert kept is not None
    assert kept.outcome == b"the whole job"
    assert [job.outcome for job in (await records.list(Page()))[0]] == [None]
    await records.refresh("mlp-1", state=jobs_pb2.JOB_STATE_RUNNING, message="again", end_time=None)
    kept = await records.get("mlp-1")
    assert kept is not None
    assert kept.outcome is None


async def test_pages_do_not_lose_jobs_of_the_same_moment(records: JobRecords) -> None:
    """Jobs submitted at the same moment are told apart by their ids, so pages neither skip nor repeat one."""
    for number in range(5):
        await records.add(row(number))
    seen: list[str] = []
    token = ""
    while True:
        page, token = await records.list(Page(size=2, token=token))
        seen += [job.job_id for job in page]
        if not token:
            break
    assert seen == ["mlp-4", "mlp-3", "mlp-2", "mlp-1", "mlp-0"]


async def test_a_list_is_narrowed_by_experiment_and_kind(records: JobRecords) -> None:
    """Each filter counts, and no filter means all."""
    await records.add(row(1))
    await records.add(row(2, experiment="other"))
    await records.add(row(3, kind=jobs_pb2.JOB_KIND_DEPLOYMENT, experiment=""))
    filters: list[dict[str, object]] = [{}, {"experiment_name": "churn"}, {"kind": jobs_pb2.JOB_KIND_DEPLOYMENT}]
    found = [[job.job_id for job in (await records.list(Page(), **chosen))[0]] for chosen in filters]  # type: ignore[arg-type]
    assert found == [["mlp-3", "mlp-2", "mlp-1"], ["mlp-1"], ["mlp-3"]]


@pytest.mark.parametrize("token", ["?", "bm9uc2Vuc2U", "WzEsIDJd", "WyIyMDI2LTAxLTAxIiwgIngiXQ", "{}", "ä"])
async def test_a_token_that_no_list_gave_is_refused(records: JobRecords, token: str) -> None:
    """Rubbish and other JSON are PAGE_TOKEN_INVALID."""
    with pytest.raises(PlatformError) as caught:
        await records.list(Page(token=token))
    assert caught.value.reason_name == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(
    "position",
    [
        ["2026-01-01", "mlp-1"],
        ["0001-01-01T00:00:00+14:00", "mlp-1"],
        ["2026-01-01T00:00:00+00:00", "mlp-\0"],
        ["2026-01-01T00:00:00+00:00", 1],
        ["2026-01-01T00:00:00+00:00", None],
        [],
        {},
        1,
    ],
    ids=str,
)
async def test_a_token_with_a_position_of_no_row_is_refused(records: JobRecords, position: object) -> None:
    """A position that a caller wrote into a token neither fails in the database nor selects anything."""
    with pytest.raises(PlatformError) as caught:
        await records.list(Page(token=token_after(json.dumps(position), "")))
    assert caught.value.reason_name == "PAGE_TOKEN_INVALID"


async def test_a_message_may_hold_any_character(records: JobRecords) -> None:
    """PostgreSQL refuses NUL, which a message that quotes a log may hold: it is replaced. Parameters keep theirs, escaped."""
    added = row(1)
    added.conf = {"a": "\0"}
    await records.add(added)
    await records.refresh("mlp-1", state=jobs_pb2.JOB_STATE_FAILED, message="größe \0 \U0001f600", end_time=START)
    kept = await records.get("mlp-1")
    assert kept is not None
    assert (kept.message, kept.conf) == ("größe \N{REPLACEMENT CHARACTER} \U0001f600", {"a": "\0"})


async def test_jobs_are_counted_by_kind_and_time(records: JobRecords) -> None:
    """Only jobs of the kind that came at that time or later count."""
    await records.add(row(1, seconds=0))
    await records.add(row(2, seconds=10))
    await records.add(row(3, seconds=20))
    await records.add(row(4, seconds=20, kind=jobs_pb2.JOB_KIND_DEPLOYMENT))
    assert await records.count_since(TRAINING, START + timedelta(seconds=10)) == 2


@pytest.mark.parametrize(("asked", "limit"), [(0, 100), (7, 7), (1000, 1000), (5000, 1000)])
def test_a_page_has_a_size(asked: int, limit: int) -> None:
    """Nothing asked means 100, too much means 1000."""
    assert Page(size=asked).limit == limit
