"""Generates card data: transactions with some fraud among them, and weekly snapshots of what is known of every user.

The same day always has the same transactions, whatever the last day is: a longer history only adds to a shorter one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEED = 20240101
FIRST_DAY = date(2024, 1, 1)
USERS = 500
TRANSACTIONS_A_DAY = 60
FRAUD_RATE = 0.05
WARM_UP_DAYS = 90  # Days before the first one, so that users have a history on it.
WINDOW_DAYS = 30
SNAPSHOT_DAYS = 7

# Name, share among honest payments, share among frauds, typical amount as a multiple of the user's own.
CATEGORIES = (
    ("grocery", 0.30, 0.08, 0.7),
    ("restaurant", 0.20, 0.07, 0.6),
    ("fuel", 0.13, 0.05, 0.8),
    ("clothing", 0.12, 0.12, 1.2),
    ("entertainment", 0.10, 0.08, 0.8),
    ("electronics", 0.06, 0.24, 2.5),
    ("travel", 0.05, 0.14, 3.5),
    ("gift_card", 0.04, 0.22, 1.0),
)
_NAMES = np.array([name for name, _, _, _ in CATEGORIES], dtype=object)
_HONEST_SHARES = np.array([share for _, share, _, _ in CATEGORIES])
_FRAUD_SHARES = np.array([share for _, _, share, _ in CATEGORIES])
_MULTIPLES = np.array([multiple for _, _, _, multiple in CATEGORIES])
_HONEST_HOURS = np.array([1, 1, 1, 1, 1, 2, 4, 8, 10, 9, 9, 11, 14, 12, 9, 9, 11, 14, 16, 15, 12, 8, 5, 2]) / 185
_FRAUD_HOURS = np.array([12, 14, 14, 13, 11, 7, 4, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 5, 5, 6, 7, 9, 11]) / 158

Columns = dict[str, NDArray[Any]]
Users = Columns


def generate(last_day: date, *, seed: int = SEED) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make the whole history from FIRST_DAY up to and including a day.

    Returns:
        The transactions, one row each (amount in euros, times in UTC), and the users' snapshots, one row a user and week.

    Raises:
        ValueError: if the last day lies before FIRST_DAY.
    """
    if last_day < FIRST_DAY:
        raise ValueError(f"the data begin on {FIRST_DAY}; {last_day} lies before that")
    users = _users(np.random.default_rng(seed))
    first = FIRST_DAY - timedelta(days=WARM_UP_DAYS)
    days = [first + timedelta(days=offset) for offset in range((last_day - first).days + 1)]
    everything = _frame([_day(day, users, seed) for day in days])
    snapshots = _snapshots(everything, users, first, len(days))
    transactions = everything[everything["event_timestamp"] >= _midnight(FIRST_DAY)].reset_index(drop=True)
    return transactions, snapshots


def write(folder: Path, last_day: date) -> tuple[Path, Path]:
    """Write the history up to a day as two Parquet files, and return their paths: transactions, snapshots.

    A reader never sees half a file: each is put in its place in one step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "transactions.parquet", folder / "user_features.parquet"
    for frame, path in zip(generate(last_day), paths, strict=True):
        partial = path.with_suffix(".partial")
        frame.to_parquet(partial, index=False)
        partial.replace(path)
    return paths


def _users(rng: np.random.Generator) -> Users:
    return {
        "user_id": np.array([f"user_{number}" for number in range(1, USERS + 1)], dtype=object),
        "typical_amount": rng.lognormal(3.4, 0.6, USERS),
        "abroad": rng.beta(1.2, 14, USERS),  # Few travel much.
        "activity": rng.gamma(2.0, 1.0, USERS),
        "age_days": rng.integers(30, 3000, USERS),  # On the first day of the warm-up.
    }


def _day(day: date, users: Users, seed: int) -> Columns:
    """One day's transactions in the order of their times, drawn from a generator that belongs to the day."""
    rng = np.random.default_rng([seed, day.toordinal()])
    count = int(rng.poisson(TRANSACTIONS_A_DAY))
    who = rng.choice(USERS, count, p=users["activity"] / users["activity"].sum())
    fraud = rng.random(count) < FRAUD_RATE
    category = _either(fraud, rng.choice(len(_NAMES), count, p=_FRAUD_SHARES), rng.choice(len(_NAMES), count, p=_HONEST_SHARES))
    hour = _either(fraud, rng.choice(24, count, p=_FRAUD_HOURS), rng.choice(24, count, p=_HONEST_HOURS))
    # A stolen card is drained: frauds run to a few times what its owner usually pays.
    size = rng.lognormal(0.0, 0.45, count) * np.where(fraud, rng.lognormal(0.9, 0.6, count), 1.0)
    abroad = rng.random(count) < np.where(fraud, 0.5, users["abroad"][who])
    columns = {
        "transaction_id": _numbered(day, count),
        "user_id": users["user_id"][who],
        "event_timestamp": _second(day) + hour * 3600 + rng.integers(0, 3600, count),
        "amount": np.round(np.maximum(users["typical_amount"][who] * _MULTIPLES[category] * size, 0.5), 2),
        "merchant_category": _NAMES[category],
        "is_international": abroad,
        "hour_of_day": hour.astype(np.int64),
        "is_fraud": fraud.astype(np.int64),
    }
    # Stable: how other sorts order equal times differs between processors.
    order = np.argsort(columns["event_timestamp"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def _numbered(day: date, count: int) -> NDArray[Any]:
    prefix = f"{day:%Y%m%d}"
    return np.array([f"{prefix}-{number:04d}" for number in range(count)], dtype=object)


def _frame(parts: list[Columns]) -> pd.DataFrame:
    """One table of all parts, whose times are seconds since 1970."""
    frame = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    frame["event_timestamp"] = pd.to_datetime(frame["event_timestamp"], unit="s", utc=True)
    return frame


def _either(condition: NDArray[np.bool_], yes: NDArray[Any], no: NDArray[Any]) -> NDArray[Any]:
    return np.where(condition, yes, no)


def _snapshots(transactions: pd.DataFrame, users: Users, first: date, days: int) -> pd.DataFrame:
    """What was known of each user at midnight UTC of every seventh day: only what had happened before."""
    totals = _daily(transactions, first, days)
    # With a row of zeros in front, row `i` holds the sum of all days before day `i`.
    count, amount, squares, abroad = (_sums_before(totals[name]) for name in ("count", "amount", "squares", "abroad"))
    parts = []
    for day in range(WARM_UP_DAYS, days, SNAPSHOT_DAYS):
        seen = np.maximum(count[day], 1)
        average = amount[day] / seen
        window = slice(day - WINDOW_DAYS, day)
        known = {
            "user_id": users["user_id"],
            "event_timestamp": np.full(USERS, _second(first + timedelta(days=day))),
            "total_transactions": count[day].astype(np.int64),
            "avg_transaction_amount": average.round(2),
            "std_transaction_amount": np.sqrt(np.maximum(squares[day] / seen - average**2, 0)).round(2),
            "transactions_30d": totals["count"][window].sum(axis=0).astype(np.int64),
            "max_amount_30d": totals["largest"][window].max(axis=0),
            "international_ratio": (abroad[day] / seen).round(4),
            "account_age_days": (users["age_days"] + day).astype(np.int64),
        }
        parts.append(known)
    return _frame(parts)


def _daily(transactions: pd.DataFrame, first: date, days: int) -> dict[str, NDArray[np.float64]]:
    """Sums (and the largest amount) of each day and user, as arrays of shape (days, users)."""
    day = ((transactions["event_timestamp"] - _midnight(first)) // pd.Timedelta(days=1)).to_numpy()
    user = transactions["user_id"].str.removeprefix("user_").astype(int).to_numpy() - 1
    amount = transactions["amount"].to_numpy()
    values = {"count": np.ones_like(amount), "amount": amount, "squares": amount**2, "abroad": transactions["is_international"]}
    totals = {name: np.zeros((days, USERS)) for name in (*values, "largest")}
    for name, value in values.items():
        np.add.at(totals[name], (day, user), value)
    np.maximum.at(totals["largest"], (day, user), amount)
    return totals


def _sums_before(daily: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.vstack([np.zeros((1, USERS)), daily.cumsum(axis=0)])


def _second(day: date) -> int:
    return int(_midnight(day).timestamp())


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
