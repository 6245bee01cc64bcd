"""Features from files to the online store, on the real stack: what may be registered, what is loaded, and what is said of it."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from ml_platform import InvalidArgument, JobFailed, MLPlatform
from tests.support.stack import Stack

D0, DAY = datetime(2024, 5, 1, tzinfo=UTC), timedelta(days=1)
TIME = pa.timestamp("us", "UTC")


@pytest.fixture
def name() -> str:
    """A view's name."""
    return f"view_{uuid.uuid4().hex[:8]}"


@pytest.fixture
def file(stack: Stack, name: str) -> Path:
    """A file where the stack lets views read from."""
    folder = stack.state.resolve() / "data" / "features"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.parquet"


def write(file: Path, u: Any, y: list[float], times: list[datetime], created: datetime = D0) -> None:
    """Write a history."""
    columns = {"u": pa.array(u, pa.int64()), "y": y, "event_timestamp": pa.array(times, TIME)}
    parquet.write_table(pa.table({**columns, "created": pa.array([created] * len(y), TIME)}), file)


def materialized_until(platform: MLPlatform, name: str) -> datetime:
    """The end of the newest window; the server reads the registry every few seconds."""
    end = time.monotonic() + 120
    while (until := platform.get_feature_view(name).materialized_until) is None:
        assert time.monotonic() < end, "the registry was not refreshed"
        time.sleep(0.5)
    return until


def test_a_corrected_file_reaches_the_online_store(platform: MLPlatform, file: Path, name: str) -> None:
    """The end of the window is excluded, a correction of the same event time wins, and so does one that is pushed."""

    def served() -> list[object]:
        entities = [{"u": key} for key in (1, 2)]
        return [vector.features["y"] for vector in platform.get_online_features(entities=entities, feature_views=[name]).vectors]

    write(file, [1, 1, 2], [1.0, 2.0, 3.0], [D0, D0 + DAY, D0 + DAY])
    platform.register_feature_view(name, {"u": "int64"}, {"y": "double"}, str(file), created_timestamp_column="created")
    platform.materialize_features(name, D0, D0 + DAY)
    assert served() == [1.0, None]
    assert materialized_until(platform, name) == D0 + DAY
    write(file, [1, 2], [1.5, 3.0], [D0, D0 + DAY], D0 + DAY)
    platform.materialize_features(name, D0, D0 + DAY)
    assert served() == [1.5, None]
    assert platform.push_features(name, {"u": 1, "y": 1.75, "event_timestamp": D0}).row_count == 1
    older = platform.push_features(name, {"u": 1, "y": 9.0, "event_timestamp": D0 - DAY})
    assert (older.row_count, older.skipped_count, older.skipped_rows[0].newer_time) == (0, 1, D0)
    assert served() == [1.75, None]


def test_today_means_up_to_now(platform: MLPlatform, file: Path, name: str) -> None:
    """What has not happened yet is left to a later window."""
    ahead = datetime.now(UTC) + DAY
    write(file, [1, 1], [1.0, 2.0], [D0, ahead])
    platform.register_feature_view(name, {"u": "int64"}, {"y": "double"}, str(file))
    platform.materialize_features(name, D0.date(), datetime.now(UTC).date())
    assert repr(platform.get_online_features(1, feature_views=[name]).features) == "{'y': 1.0}"
    assert materialized_until(platform, name) <= datetime.now(UTC)


def test_a_file_that_cannot_be_loaded_fails_the_job_with_the_reason(platform: MLPlatform, file: Path, name: str) -> None:
    """A row lost its key after the view was registered."""
    write(file, [1], [1.0], [D0])
    platform.register_feature_view(name, {"u": "int64"}, {"y": "double"}, str(file))
    write(file, [1, None], [1.0, 2.0], [D0, D0])
    with pytest.raises(JobFailed, match="has 1 row without a value of the key u"):
        platform.materialize_features(name, D0, D0 + DAY)


@pytest.mark.parametrize("path", ["/etc/shadow", "/no/such", "/", "http://127.0.0.1:9/x.parquet", "../../../../etc/passwd"])
def test_a_source_outside_of_the_open_places_is_refused(platform: MLPlatform, name: str, path: str) -> None:
    """In the same words, whatever is there."""
    with pytest.raises(InvalidArgument) as caught:
        platform.register_feature_view(name, {"emp": "string"}, {"salary": "double"}, path)
    assert caught.value.reason == "FEATURE_SOURCE_REFUSED"
    assert path not in str(caught.value)
