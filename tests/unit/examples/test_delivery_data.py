"""The delivery example's data hold a signal, and its snapshots tell nobody's future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from examples.delivery_times import generate, run
from tests.support import days

LAST_DAY = date(2025, 3, 31)


@pytest.fixture(scope="module")
def history() -> generate.History:
    return generate.generate(LAST_DAY)


def test_the_same_last_day_gives_the_same_data(history: generate.History) -> None:
    """The generator is seeded."""
    for one, other in zip(history, generate.generate(LAST_DAY), strict=True):
        assert_frame_equal(one, other)


@pytest.fixture(scope="module")
def longest() -> generate.History:
    return generate.generate(days.DAYS[-1])


@pytest.mark.parametrize("day", days.DAYS, ids=str)
def test_a_longer_history_only_adds_to_a_shorter_one(longest: generate.History, day: date) -> None:
    """What was generated up to a day is the beginning of what is generated up to a later day, whatever the days are."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    for longer, shorter in zip(longest, generate.generate(day), strict=True):
        assert_frame_equal(longer[longer["event_timestamp"] < end].reset_index(drop=True), shorter)


@pytest.mark.parametrize("day", days.DAYS, ids=str)
def test_on_every_day_the_order_s_kitchen_is_quicker_than_the_busy_one(longest: generate.History, day: date) -> None:
    """The keys of `run`'s order are known, and its kitchen is quick enough for a busy one to show in the minutes."""
    keys = {"courier_id": longest.courier_stats, "restaurant_id": longest.restaurant_stats}
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    _, kitchen = (
        frame[(frame[key] == run.ORDER[key]) & (frame["event_timestamp"] <= midnight)].iloc[-1] for key, frame in keys.items()
    )
    [busy] = run.BUSY_KITCHEN.values()
    assert kitchen["average_preparation_minutes"] < busy - 10


def test_a_snapshot_counts_the_deliveries_before_it(history: generate.History) -> None:
    """On the morning of a snapshot, a courier and a restaurant have made as many deliveries as lie before it."""
    for snapshots, key in ((history.courier_stats, "courier_id"), (history.restaurant_stats, "restaurant_id")):
        moment = snapshots["event_timestamp"].max()
        known = snapshots[snapshots["event_timestamp"] == moment].set_index(key)["deliveries"]
        before = history.deliveries[history.deliveries["event_timestamp"] < moment]
        assert known.to_dict() == before.groupby(key).size().to_dict()


def test_longer_ways_and_slower_kitchens_take_longer(history: generate.History) -> None:
    """The minutes follow from distance and kitchen."""
    deliveries = history.deliveries
    kitchens = history.restaurant_stats.groupby("restaurant_id")["average_preparation_minutes"].last()
    assert deliveries["minutes"].corr(deliveries["distance_km"]) > 0.3
    assert deliveries["minutes"].corr(deliveries["restaurant_id"].map(kitchens)) > 0.3


def test_files_hold_what_was_generated(tmp_path: Path, history: generate.History) -> None:
    """What is written can be read again."""
    for path, frame in zip(generate.write(tmp_path, LAST_DAY), history, strict=True):
        assert_frame_equal(pd.read_parquet(path), frame, check_dtype=False)


def test_too_short_a_history_is_refused() -> None:
    """Without a week to look back on there is nothing to learn from."""
    with pytest.raises(ValueError, match="2025-01-05 is too early"):
        generate.generate(date(2025, 1, 5))
