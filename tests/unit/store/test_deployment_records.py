"""The history of deployments: one in progress, one active, and several servers that agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ml_platform.v1 import deployments_pb2, jobs_pb2, models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database
from ml_platform_server.store.deployments import DeploymentRecords
from ml_platform_server.store.jobs import JobRecords
from ml_platform_server.store.paging import Page
from ml_platform_server.store.policies import policy_of, stored
from ml_platform_server.store.tables import DeploymentRow, JobRow
from tests.support.frame import opened_store

STAGING = "staging"
PRODUCTION = "production"
ACTIVE = deployments_pb2.DEPLOYMENT_STATE_ACTIVE
ARCHIVED = deployments_pb2.DEPLOYMENT_STATE_ARCHIVED
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
async def database(store_url: str) -> AsyncIterator[Database]:
    async with opened_store(store_url) as database:
        row = JobRow(
            job_id="mlp-1",
            kind=jobs_pb2.JOB_KIND_DEPLOYMENT,
            pipeline="p",
            state=jobs_pb2.JOB_STATE_QUEUED,
            conf={},
            submitted_by="ada",
            create_time=START,
        )
        await JobRecords(database=database).add(row)
        yield database


@pytest.fixture
def records(database: Database) -> DeploymentRecords:
    return DeploymentRecords(database=database)


def row(number: int, environment: str = STAGING, version: int | None = None, model_name: str = "fraud") -> DeploymentRow:
    return DeploymentRow(
        deployment_id=f"dep-{number}",
        model_name=model_name,
        version=version or number,
        environment=environment,
        state=deployments_pb2.DEPLOYMENT_STATE_IN_PROGRESS,
        actor="ada",
        job_id="mlp-1",
        create_time=START + timedelta(seconds=number),
    )


async def activated(records: DeploymentRecords, made: DeploymentRow) -> None:
    await records.begin(made)
    assert await records.activate(made.deployment_id)


async def test_a_deployment_keeps_its_feature_policy(records: DeploymentRecords) -> None:
    """The policy comes back as it was kept, and a row from before there were policies has the usual one."""
    policy = deployments_pb2.FeaturePolicy(missing=deployments_pb2.MISSING_FEATURES_FAIL)
    kept, before = row(1), row(2, PRODUCTION)
    kept.feature_policy = stored(policy)
    for each in (kept, before):
        await records.begin(each)
    found = [await records.get("dep-1"), await records.get("dep-2")]
    usual = deployments_pb2.STALE_FEATURES_USE
    assert [(policy_of(each).missing, policy_of(each).stale) for each in found if each] == [
        (deployments_pb2.MISSING_FEATURES_FAIL, usual),
        (deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL, usual),
    ]


async def test_of_several_servers_exactly_one_activates(store_url: str, database: Database, records: DeploymentRecords) -> None:
    """Ten servers that see the same success at once move traffic once and count one generation."""
    await activated(records, row(1))
    await records.begin(row(2))
    others = [Database(url=store_url) for _ in range(10)]
    for other in others:
        await other.open()
    won = await asyncio.gather(*(DeploymentRecords(database=other).activate("dep-2") for other in others))
    for other in others:
        await other.close()
    assert (sum(won), await records.generation(), await records.count_active()) == (1, 2, 1)


async def test_a_deployment_ends_once(records: DeploymentRecords) -> None:
    """What has failed is not activated, what is active does not fail, and what never began does neither."""
    await records.begin(row(1))
    assert await records.fail("dep-1", "why")
    assert not await records.activate("dep-1")
    await activated(records, row(2))
    assert not await records.fail("dep-2", "late")
    assert not await records.activate("dep-none")
    assert [(one.deployment_id, one.message) for one in await records.all_active()] == [("dep-2", "Answers predictions.")]


async def test_the_one_before_is_archived_and_named(records: DeploymentRecords) -> None:
    """Activation ends the deployment before it in the same environment only, and remembers which one that was."""
    await activated(records, row(1))
    await activated(records, row(2, PRODUCTION))
    await activated(records, row(3))
    states = {one.deployment_id: one for one in (await records.list(Page()))[0]}
    assert (states["dep-1"].state, states["dep-1"].message) == (ARCHIVED, "Replaced by dep-3.")
    assert states["dep-1"].end_time is not None
    assert (states["dep-2"].state, states["dep-3"].previous_deployment_id) == (ACTIVE, "dep-1")
    assert states["dep-3"].message == "Answers predictions."


async def test_a_second_one_in_progress_is_refused(records: DeploymentRecords) -> None:
    """The database itself allows one in progress for a model in an environment."""
    await records.begin(row(1))
    with pytest.raises(PlatformError) as caught:
        await records.begin(row(2))
    assert (caught.value.reason_name, "staging" in caught.value.message) == ("DEPLOYMENT_IN_PROGRESS", True)


async def test_the_stage_of_a_version_is_the_highest_of_its_deployments(records: DeploymentRecords) -> None:
    """Production before staging before archived; a version that never answered has none."""
    await activated(records, row(1, STAGING, version=1))
    await activated(records, row(2, PRODUCTION, version=1))
    await activated(records, row(3, STAGING, version=2))
    await activated(records, row(4, STAGING, version=3))
    await records.begin(row(5, STAGING, version=4))
    await activated(records, row(6, STAGING, version=1, model_name="other"))
    assert await records.stages(["fraud"]) == {
        ("fraud", 1): models_pb2.MODEL_STAGE_PRODUCTION,
        ("fraud", 2): models_pb2.MODEL_STAGE_ARCHIVED,
        ("fraud", 3): models_pb2.MODEL_STAGE_STAGING,
    }


async def test_an_alias_that_was_moved_back_is_mirrored_again(records: DeploymentRecords) -> None:
    """If a deployment was replaced while its alias was being set, its successor is not taken for mirrored."""
    await activated(records, row(1))
    (slow,) = await records.unmirrored()
    await activated(records, row(2))
    (fast,) = await records.unmirrored()
    await records.mark_mirrored(fast)
    assert list(await records.unmirrored()) == []
    await records.mark_mirrored(slow)
    assert [one.deployment_id for one in await records.unmirrored()] == ["dep-2"]


async def test_the_history_pages_newest_first(records: DeploymentRecords) -> None:
    """Pages follow each other without gap or repeat, though something new comes in between."""
    for number in range(1, 6):
        await activated(records, row(number))
    first, token = await records.list(Page(size=2))
    await activated(records, row(6))
    second, token = await records.list(Page(size=2, token=token))
    third, token = await records.list(Page(size=2, token=token))
    assert [one.version for one in (*first, *second, *third)] == [5, 4, 3, 2, 1]
    assert token == ""
    only = await records.list(Page(), model_name="fraud", environment=STAGING, state=ACTIVE)
    assert [one.version for one in only[0]] == [6]
