"""Materialization jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ml_platform.v1 import errors_pb2, jobs_pb2
from ml_platform.v1.features_pb2 import MaterializeFeaturesRequest
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.jobs.materialization import Materialization
from tests.support.jobs import FakeViews
from tests.support.jobs_house import AIRFLOW, House

MISSING = PlatformError(errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, "no", remedy="no")


def request(*views: str) -> MaterializeFeaturesRequest:
    made = MaterializeFeaturesRequest(feature_views=views)
    made.start_time.FromJsonString("2024-01-01T00:00:00Z")
    made.end_time.FromJsonString("2024-02-01T00:00:00Z")
    return made


async def test_views_and_window_go_to_the_pipeline(house: House, call: Call) -> None:
    """The pipeline is given each view once and the window in ISO form."""
    materialization = Materialization(jobs=house.jobs, views=FakeViews("users", missing=MISSING), settings=AIRFLOW)
    job = await materialization.submit(request("users", "users"), call)
    conf = {"feature_views": ["users"], "start_time": "2024-01-01T00:00:00Z", "end_time": "2024-02-01T00:00:00Z"}
    assert house.pipelines.triggered == [("feature_materialization", job.job_id, conf)]
    assert job.kind == jobs_pb2.JOB_KIND_MATERIALIZATION


async def test_a_window_ends_now_at_the_latest(house: House, call: Call) -> None:
    """What has not happened yet is not counted as loaded."""
    materialization = Materialization(jobs=house.jobs, views=FakeViews("users", missing=MISSING), settings=AIRFLOW)
    asked_for = request("users")
    asked_for.end_time.FromJsonString("9999-01-01T00:00:00Z")
    before = datetime.now(UTC)
    await materialization.submit(asked_for, call)
    [(_, _, conf)] = house.pipelines.triggered
    assert before <= datetime.fromisoformat(str(conf["end_time"])) <= datetime.now(UTC)


async def test_a_window_that_lies_ahead_is_refused(house: House, call: Call) -> None:
    """There is nothing to load yet."""
    materialization = Materialization(jobs=house.jobs, views=FakeViews("users", missing=MISSING), settings=AIRFLOW)
    asked_for = request("users")
    asked_for.start_time.FromDatetime(datetime.now(UTC) + timedelta(hours=1))
    asked_for.end_time.FromDatetime(datetime.now(UTC) + timedelta(hours=2))
    with pytest.raises(PlatformError) as caught:
        await materialization.submit(asked_for, call)
    assert [violation.field for violation in caught.value.violations] == ["start_time"]
    assert (caught.value.reason_name, house.pipelines.triggered) == ("INVALID_FIELDS", [])


async def test_an_unknown_view_starts_nothing(house: House, call: Call) -> None:
    """A view that does not exist is told before anything starts."""
    materialization = Materialization(jobs=house.jobs, views=FakeViews("users", missing=MISSING), settings=AIRFLOW)
    with pytest.raises(PlatformError) as caught:
        await materialization.submit(request("users", "shops"), call)
    assert (caught.value.reason_name, house.pipelines.triggered) == ("FEATURE_VIEW_NOT_FOUND", [])
