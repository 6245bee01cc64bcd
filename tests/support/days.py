"""Days on which everything that reads today's date must hold: leap days, month ends, clock changes, and days drawn once."""

from __future__ import annotations

import random
from datetime import date, timedelta

FIRST, LAST = date(2025, 1, 15), date(2028, 3, 31)

_LEAP = (date(2028, 2, 28), date(2028, 2, 29), date(2028, 3, 1), date(2027, 2, 28))
_MONTH_ENDS = tuple(date(2026 + month // 12, month % 12 + 1, 1) - timedelta(days=1) for month in range(1, 13))
_YEAR = (date(2025, 12, 31), date(2026, 1, 1), date(2027, 12, 31), date(2028, 1, 1))
# Europe's and North America's, in spring and autumn; Sunday, and the day after it.
_CLOCKS = tuple(
    date(2026, month, day) + timedelta(days=after) for month, day in ((3, 8), (3, 29), (10, 25), (11, 1)) for after in (0, 1)
)
_ROW = tuple(date(2026, 11, day) for day in range(23, 30))
_CHOSEN = {FIRST, LAST, *_LEAP, *_MONTH_ENDS, *_YEAR, *_CLOCKS, *_ROW}
_OTHERS = [FIRST + timedelta(days=after) for after in range((LAST - FIRST).days)]

DAYS = sorted(_CHOSEN | set(random.Random(0).sample(sorted(set(_OTHERS) - _CHOSEN), 60 - len(_CHOSEN))))
