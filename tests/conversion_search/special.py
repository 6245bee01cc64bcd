"""NaN, infinities and numbers beyond 32 bits, to the library and to the platform's server."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from tests.conversion_search.candidates import Candidate
from tests.conversion_search.judging import Served, differing, original

ROWS = 20


async def wrong_specials(made: Candidate, served: Served) -> dict[str, Any]:
    """By column and value, where the server answers what the library refuses, or answers otherwise."""
    wrong: dict[str, Any] = {}
    for name, values in made.fresh.items():
        if values.dtype.kind != "f":
            continue
        for special in (math.nan, math.inf, -math.inf, 1e39):
            if special == 1e39 and values.dtype == np.float32:  # no number of its type
                continue
            table = made.fresh.head(ROWS).assign(**{str(name): np.full(ROWS, special, values.dtype)})
            if fault := await _fault(made, served, table):
                wrong[f"{name} {special}"] = fault
    return wrong


async def _fault(made: Candidate, served: Served, table: pd.DataFrame) -> Any:
    answered = await served.answer(table)
    everything = len(answered[3]) == len(table)
    try:
        expected = original(made, table)
    except Exception:  # noqa: BLE001  # it refuses
        return {} if everything else "answered where the model refuses"
    if everything:
        # An explicit refusal is no wrong answer, but for missing values, which models are asked every day.
        return "refused where the model answers" if table.isna().to_numpy().any() else {}
    return differing(expected, answered)
