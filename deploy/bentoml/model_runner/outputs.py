"""What models give, as Python's JSON has it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np
import pandas as pd

PREDICTION = "prediction"


def named_outputs(given: Any, rows: int, schema: Any) -> dict[str, list[Any]]:  # noqa: ANN401  # any flavour's output
    """N plain values per output.

    Raises:
        ValueError: the model did not answer row by row.
    """
    if isinstance(given, pd.DataFrame):
        found = {str(name): plain(given.iloc[:, at].tolist()) for at, name in enumerate(given.columns)}
        if list(found) == ["0"]:
            found = {_only_name(schema): found["0"]}
    elif isinstance(given, Mapping):
        found = {str(name): _flat(plain(values)) for name, values in given.items()}
    else:
        found = {_only_name(schema): _flat(plain(given))}
    for name, values in found.items():
        if not isinstance(values, list) or len(values) != rows:
            raise ValueError(f"the output {name!r} is not one value for each of {rows} rows")
    return found


def plain(thing: Any) -> Any:  # noqa: ANN401, PLR0911  # one return per kind of thing
    """The same in the kinds that Python's JSON has, NaN and infinity among them: times are text, bytes base64."""
    if isinstance(thing, np.ndarray) and _is_plain(thing):
        return thing.tolist()
    if isinstance(thing, np.ndarray | pd.Series | pd.Index | np.generic):
        return plain(thing.tolist())
    if isinstance(thing, bool | int | float | str) or thing is None:
        return thing
    if isinstance(thing, Mapping):
        return {str(name): plain(value) for name, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [plain(item) for item in thing]
    if isinstance(thing, bytes):
        return base64.b64encode(thing).decode()
    if thing is pd.NaT or thing is pd.NA:
        return None
    return thing.isoformat() if isinstance(thing, date) else _number_or_text(thing)


def _is_plain(array: np.ndarray[Any, np.dtype[Any]]) -> bool:
    """Whether JSON has all of an array, so that nobody need look at each value: batches are large."""
    return array.dtype.kind in "biufU"


def _number_or_text(thing: object) -> float | str | None:
    try:
        return plain(float(thing))  # type: ignore[arg-type, no-any-return]  # decimals and the like; what is no number raises
    except (TypeError, ValueError):
        return str(thing)


def _flat(values: Any) -> Any:  # noqa: ANN401
    """A column of single values as single values."""
    if isinstance(values, list) and values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def _only_name(schema: Any) -> str:  # noqa: ANN401
    """The name of the only output, if the signature tells it."""
    names = schema.input_names() if schema is not None and len(schema.inputs) == 1 and schema.has_input_names() else []
    return str(names[0]) if names else PREDICTION
