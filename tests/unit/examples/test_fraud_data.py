"""The fraud example's data look like card data and tell nobody's future."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from examples.fraud_detection import generate
from tests.support import days

LAST_DAY = date(2024, 6, 30)


@pytest.fixture(scope="module")
def history() -> tuple[pd.DataFrame, pd.DataFrame]:
    return generate.generate(LAST_DAY)


@pytest.fixture(scope="module")
def longest() -> tuple[pd.DataFrame, pd.DataFrame]:
    return generate.generate(days.DAYS[-1])


@pytest.mark.parametrize("day", [date(2024, 1, 1), date(2024, 2, 29), date(2024, 3, 31), *days.DAYS[::5]], ids=str)
def test_a_longer_history_only_adds_to_a_shorter_one(longest: tuple[pd.DataFrame, pd.DataFrame], day: date) -> None:
    """What was generated up to a day is the beginning of what is generated up to a later day, whatever the days are."""
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    for longer, shorter in zip(longest, generate.generate(day), strict=True):
        assert_frame_equal(longer[longer["event_timestamp"] < end].reset_index(drop=True), shorter)


def test_transactions_cover_every_day_asked_for(history: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """There are transactions on each day from the first to the last, and on no other."""
    days = set(history[0]["event_timestamp"].dt.date)
    assert days == {generate.FIRST_DAY + timedelta(days=offset) for offset in range((LAST_DAY - generate.FIRST_DAY).days + 1)}


def test_frauds_are_rare_and_stand_out(history: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Three to eight in a hundred transactions are frauds; they are larger, further away and later at night than the others."""
    transactions = history[0]
    frauds, honest = transactions[transactions["is_fraud"] == 1], transactions[transactions["is_fraud"] == 0]
    assert 0.03 <= len(frauds) / len(transactions) <= 0.08
    assert frauds["amount"].median() > 2 * honest["amount"].median()
    assert frauds["is_international"].mean() > 2 * honest["is_international"].mean()
    assert (frauds["hour_of_day"] < 6).mean() > 2 * (honest["hour_of_day"] < 6).mean()


def test_amounts_hours_and_users_are_plausible(history: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """Amounts are positive with a long tail, hours agree with the times, users have names that people can guess."""
    transactions = history[0]
    assert transactions["amount"].min() > 0
    assert transactions["amount"].mean() > 1.3 * transactions["amount"].median()
    assert (transactions["event_timestamp"].dt.hour == transactions["hour_of_day"]).all()
    assert "user_1" in set(transactions["user_id"])
    assert transactions["transaction_id"].is_unique


def test_a_snapshot_knows_the_past_only(history: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """From one snapshot to a later one, a user's counts and sums grow by exactly the transactions in between."""
    transactions, snapshots = history
    start, end = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 24, tzinfo=UTC)
    first, last = (snapshots[snapshots["event_timestamp"] == moment].set_index("user_id") for moment in (start, end))
    between = transactions[(transactions["event_timestamp"] >= start) & (transactions["event_timestamp"] < end)].groupby(
        "user_id"
    )
    grown = (last["total_transactions"] - first["total_transactions"]).loc[lambda growth: growth > 0]
    assert grown.to_dict() == between.size().to_dict()
    spent = (
        last["avg_transaction_amount"] * last["total_transactions"]
        - first["avg_transaction_amount"] * first["total_transactions"]
    )
    # Averages are rounded to a cent, so sums agree to as many cents as there are transactions.
    assert (spent.loc[grown.index] - between["amount"].sum()).abs().max() < 0.02 * last["total_transactions"].max()


def test_a_snapshot_of_thirty_days_looks_back_thirty_days(history: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """The count and the largest amount of the last 30 days agree with the transactions of those days."""
    transactions, snapshots = history
    end = datetime(2024, 6, 24, tzinfo=UTC)
    last = snapshots[snapshots["event_timestamp"] == end].set_index("user_id")
    times = transactions["event_timestamp"]
    recent = transactions[(times >= end - timedelta(days=30)) & (times < end)].groupby("user_id")["amount"]
    active = last[last["transactions_30d"] > 0]
    assert active["transactions_30d"].to_dict() == recent.size().to_dict()
    assert active["max_amount_30d"].to_dict() == recent.max().to_dict()


def test_files_hold_what_was_generated(tmp_path: Path) -> None:
    """What is written can be read again, and nothing unfinished is left behind."""
    paths = generate.write(tmp_path / "data", date(2024, 1, 31))
    for path, frame in zip(paths, generate.generate(date(2024, 1, 31)), strict=True):
        assert_frame_equal(pd.read_parquet(path), frame, check_dtype=False)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["transactions.parquet", "user_features.parquet"]


def test_a_last_day_before_the_first_is_refused() -> None:
    """There is no history before the data begin."""
    with pytest.raises(ValueError, match="2024-01-01; 2023-12-31 lies before"):
        generate.generate(date(2023, 12, 31))
