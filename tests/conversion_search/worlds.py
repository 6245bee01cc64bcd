"""Random tables: columns of many kinds, and targets that depend on them in steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Random = np.random.Generator
Draw = Callable[[Random, int], Any]


def _around(low: float, high: float, digits: int | None = None) -> Callable[[Random], Draw]:
    def kind(random: Random) -> Draw:
        start, width = random.uniform(low, high), random.uniform(0.1, 1) * (high - low)

        def draw(random: Random, rows: int) -> Any:
            values = random.uniform(start - width / 2, start + width / 2, rows)
            return values if digits is None else values.round(digits)

        return draw

    return kind


def _normal(random: Random) -> Draw:
    middle, spread = random.normal() * random.choice([0, 1, 100]), random.choice([0.01, 1, 50])
    return lambda random, rows: random.normal(middle, spread, rows)


def _cents(random: Random) -> Draw:
    size = random.choice([3, 6, 12])
    return lambda random, rows: random.lognormal(size, 1, rows).round(2)


def _whole(low: int, high: int) -> Callable[[Random], Draw]:
    def kind(random: Random) -> Draw:
        start, span = int(random.integers(low, high)), int(random.choice([10, 5_000, 86_400, 2_592_000]))
        return lambda random, rows: start + random.integers(0, span, rows)

    return kind


def _years(random: Random) -> Draw:
    first = int(random.integers(1900, 2000))
    return lambda random, rows: random.integers(first, 2027, rows)


def _few(random: Random) -> Draw:
    most = int(random.integers(3, 60))
    return lambda random, rows: random.integers(0, most, rows)


def _flags(random: Random) -> Draw:
    share = random.uniform(0.1, 0.9)
    return lambda random, rows: random.random(rows) < share


def _singles(random: Random) -> Draw:
    draw = _normal(random)
    return lambda random, rows: draw(random, rows).astype(np.float32)


def _words(random: Random) -> Draw:
    words = [f"w{at}" for at in range(int(random.integers(2, 12)))]
    return lambda random, rows: random.choice(words, rows).astype(object)


KINDS: dict[str, Callable[[Random], Draw]] = {
    "normal": _normal,
    "cents": _cents,
    "seconds": _whole(1_500_000_000, 1_750_000_000),
    "ids": _whole(2**25, 2**40),
    "latitudes": _around(35, 60),
    "rounded": _around(-1, 1, 1),
    "years": _years,
    "few": _few,
    "flags": _flags,
    "singles": _singles,
    "words": _words,
}
BEYOND_24_BITS = ("cents", "seconds", "ids")


@dataclass(frozen=True)
class World:
    """Columns by name, each with its kind and with what draws its values."""

    kinds: dict[str, str]
    draws: dict[str, Draw]
    parts: dict[str, tuple[float, float]]
    """By column, where the target steps: a period and a weight."""

    def table(self, random: Random, rows: int) -> pd.DataFrame:
        """Rows of this world."""
        return pd.DataFrame({name: draw(random, rows) for name, draw in self.draws.items()})

    def score(self, table: pd.DataFrame, random: Random) -> Any:
        """A number for each row that depends on the columns, and on chance."""
        total = random.normal(size=len(table)) * 0.3
        for name, (period, weight) in self.parts.items():
            values = table[name]
            codes = pd.factorize(values, sort=True)[0] if values.dtype == object else values.to_numpy(float)
            total += weight * np.sign(np.sin(codes / period))
        return total


def world(random: Random, *, words: bool) -> World:
    """A world of two to six columns."""
    known = [kind for kind in KINDS if words or kind != "words"]
    kinds = {f"c{at}": str(random.choice(known)) for at in range(int(random.integers(2, 7)))}
    draws = {name: KINDS[kind](random) for name, kind in kinds.items()}
    parts = {}
    for name, draw in draws.items():
        values = draw(random, 200)
        spread = 1.0 if values.dtype == object else float(np.std(values.astype(float))) or 1.0
        parts[name] = float(random.choice([0.1, 0.3, 1.0]) * spread), float(random.choice([0.2, 1.0, 2.0]))
    return World(kinds, draws, parts)
