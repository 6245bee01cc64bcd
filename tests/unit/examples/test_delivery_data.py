"""The delivery example's data hold a signal, and its snapshots tell nobody's future."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from examples.delivery_times import generate

LAST_DAY = date(2025, 3, 31)


@pytest.fixture(scope="module")
def history() -> generate.History:
    return generate.generate(LAST_DAY)


def test_the_same_last_day_gives_the_same_data(history: generate.History) -> None:
    """The generator is seeded."""
    for one, other in zip(history, generate.generate(LAST_DAY), strict=True):
        assert_frame_equal(one, other)


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
