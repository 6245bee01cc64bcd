"""The sample's rows by column, as arrays of the kinds that the graph takes."""

from __future__ import annotations

from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.model import Facts

# What the graph takes for each kind of column.
TYPES: dict[str, Any] = {"b": np.bool_, "i": np.int64, "f": np.float32, "O": np.object_}


def columns(facts: Facts, rows: int) -> dict[str, list[Any]]:
    """Everything that the model takes, of that many rows; the sample is repeated if it is shorter."""
    chosen = list(islice(cycle(facts.rows), rows))
    return {name: [row[name] for row in chosen] for name in facts.columns}


def arrays(facts: Facts, rows: int) -> dict[str, NDArray[Any]]:
    """The same as arrays."""
    return {name: np.array(values, dtype=TYPES[facts.columns[name]]) for name, values in columns(facts, rows).items()}
