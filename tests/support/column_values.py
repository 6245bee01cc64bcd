"""Values for columns: those at the borders of their encodings, and any number of them."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = [0, 1, 127, 128, 300, 16_383, 16_384, 2**31, 2**56, 2**63 - 1, -1, -(2**31), -(2**63)]
DOUBLES = [0.0, -0.0, 0.1, 1e300, float("inf"), float("-inf"), float("nan")]


def some(things: list[Any], count: int) -> list[Any]:
    """So many of them."""
    return random.Random(count).choices(things, k=count)
