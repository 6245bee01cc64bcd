"""Generates deliveries of meals, and weekly snapshots of what is known of the couriers and the restaurants.

The same day always has the same deliveries, whatever the last day is: a longer history only adds to a shorter one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEED = 10
FIRST_DAY = date(2025, 1, 1)
DELIVERIES_A_DAY = 40
COURIERS = 60
RESTAURANTS = 40
WEEK = timedelta(days=7)
SPEEDS = {"bicycle": 15.0, "scooter": 24.0, "car": 19.0}  # Kilometres an hour, in a city.


class History(NamedTuple):
    """What write() puts into files, and later those files' paths."""

    deliveries: pd.DataFrame
    courier_stats: pd.DataFrame
    restaurant_stats: pd.DataFrame


class Files(NamedTuple):
    """Where the history lies."""

    deliveries: Path
    courier_stats: Path
    restaurant_stats: Path


class Nature(NamedTuple):
    """What stays the same on every day: each courier's vehicle and skill, and each kitchen's minutes."""

    vehicle: NDArray[np.str_]
    skill: NDArray[np.float64]
    kitchen: NDArray[np.float64]


def generate(last_day: date, *, seed: int = SEED) -> History:
    """Make the history from FIRST_DAY up to and including a day, at least two weeks of it.

    Raises:
        ValueError: if the last day leaves less than two weeks.
    """
    if last_day < FIRST_DAY + 2 * WEEK:
        raise ValueError(f"the data begin on {FIRST_DAY} and cover two weeks at least; {last_day} is too early")
    deliveries = _deliveries((last_day - FIRST_DAY).days + 1, seed)
    speed = deliveries["distance_km"] / (deliveries["minutes"] - deliveries["preparation_minutes"]) * 60
    facts = deliveries.assign(speed=speed)
    couriers = _snapshots(facts, "courier_id", {"average_speed_kmh": "speed", "rating": "courier_rating"})
    restaurants = _snapshots(
        facts, "restaurant_id", {"average_preparation_minutes": "preparation_minutes", "rating": "restaurant_rating"}
    )
    public = ["delivery_id", "courier_id", "restaurant_id", "event_timestamp", "distance_km", "items", "vehicle", "is_raining"]
    return History(deliveries[[*public, "minutes"]], couriers, restaurants)


def write(folder: Path, last_day: date) -> Files:
    """Write the history up to a day as Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = Files(*(folder.resolve() / f"{name}.parquet" for name in Files._fields))
    for frame, path in zip(generate(last_day), files, strict=True):
        frame.to_parquet(path, index=False)
    return files


def _nature(rng: np.random.Generator) -> Nature:
    return Nature(
        vehicle=rng.choice(list(SPEEDS), COURIERS),
        skill=rng.normal(1.0, 0.15, COURIERS),
        kitchen=rng.uniform(6, 30, RESTAURANTS),
    )


def _deliveries(days: int, seed: int) -> pd.DataFrame:
    nature = _nature(np.random.default_rng(seed))
    drawn = [_day(FIRST_DAY + timedelta(days=offset), nature, seed) for offset in range(days)]
    frame = pd.DataFrame({name: np.concatenate([day[name] for day in drawn]) for name in drawn[0]})
    begin = datetime.combine(FIRST_DAY, datetime.min.time(), tzinfo=UTC)
    midnights = np.repeat(np.arange(days), DELIVERIES_A_DAY) * 86400
    frame["event_timestamp"] = begin + pd.to_timedelta(midnights + frame.pop("second"), unit="s")
    frame["delivery_id"] = np.arange(1, len(frame) + 1)
    frame["courier_id"] = "courier_" + (frame.pop("courier") + 1).astype(str)
    frame["restaurant_id"] = frame.pop("restaurant") + 1
    return frame


def _day(day: date, nature: Nature, seed: int) -> dict[str, NDArray[Any]]:
    """One day's deliveries in the order of their times, drawn from a generator that belongs to the day."""
    rng, count = np.random.default_rng([seed, day.toordinal()]), DELIVERIES_A_DAY
    courier, restaurant = rng.integers(0, COURIERS, count), rng.integers(0, RESTAURANTS, count)
    items, distance = 1 + rng.poisson(2, count), rng.gamma(2.5, 1.3, count).clip(0.3, 15)
    rain = rng.random(count) < 0.2
    preparation = (nature.kitchen[restaurant] + 1.2 * items + rng.normal(0, 3, count)).clip(3)
    vehicle, skill = nature.vehicle[courier], nature.skill[courier]
    speed = np.array([SPEEDS[each] for each in vehicle]) * skill.clip(0.6, 1.5) * np.where(rain, 0.75, 1.0)
    riding = distance / speed * 60 * rng.lognormal(0, 0.1, count)
    return {
        "courier": courier,
        "restaurant": restaurant,
        "second": np.sort(rng.integers(10 * 3600, 22 * 3600, count)),
        "distance_km": distance.round(2),
        "items": items,
        "vehicle": vehicle,
        "is_raining": rain,
        "preparation_minutes": preparation.round(1),
        "minutes": (preparation + riding).round(1),
        "courier_rating": (3.0 + 1.5 * skill + rng.normal(0, 0.5, count)).clip(1, 5).round(),
        "restaurant_rating": rng.normal(4.0, 0.8, count).clip(1, 5).round(),
    }


def _snapshots(facts: pd.DataFrame, key: str, averages: dict[str, str]) -> pd.DataFrame:
    """Averages and a count of all weeks before, at the start of each week after the first, for each key."""
    begin = pd.Timestamp(FIRST_DAY, tz="UTC")
    week = ((facts["event_timestamp"] - begin) // WEEK).rename("week")
    sums = facts.groupby([week, key])[list(averages.values())].sum()
    sums["deliveries"] = facts.groupby([week, key]).size()
    so_far = sums.unstack(fill_value=0).cumsum().stack(future_stack=True).reset_index()
    known = so_far[so_far["deliveries"] > 0]
    snapshot = pd.DataFrame({key: known[key], "event_timestamp": begin + (known["week"] + 1) * WEEK})
    snapshot["deliveries"] = known["deliveries"].astype("int64")
    for name, column in averages.items():
        snapshot[name] = (known[column] / known["deliveries"]).round(2)
    last = facts["event_timestamp"].max()
    return snapshot[snapshot["event_timestamp"] <= last].reset_index(drop=True)
