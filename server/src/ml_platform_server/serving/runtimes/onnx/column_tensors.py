"""How whole columns become the input tensors of an ONNX graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ml_platform_server.serving.inputs.columns import Array, Values


def tensor(values: Values, dtype: type[np.generic], tail: Sequence[int]) -> Array:
    """One column as a tensor of a type, of N rows and the further dimensions that the graph wants, -1 where they vary."""
    array = as_type(values, dtype)
    # A column of N values goes into a graph that wants [N, 1], as converters make them for tables; and the other way round.
    if array.ndim != len(tail) + 1 and all(size in (1, -1) for size in tail):
        return array.reshape((len(array), *(1 for _ in tail)))
    return array


def stacked(columns: Sequence[Values], dtype: type[np.generic], rows: int) -> Array:
    """Columns side by side as one matrix."""
    matrix = np.empty((rows, len(columns)), dtype)
    for at, values in enumerate(columns):
        matrix[:, at] = as_type(values, dtype).reshape(rows)
    return matrix


def as_type(values: Values, dtype: type[np.generic]) -> Array:
    """The values in a type. Whole numbers that it does not hold are refused, as NumPy refuses them one by one.

    A double that is too large for a float becomes infinity, as it does in the model.
    """
    if not isinstance(values, np.ndarray):
        return np.array(values, dtype)
    if values.dtype == dtype:
        return values
    if np.dtype(dtype).kind in "iu" and values.size:
        limits = np.iinfo(dtype)  # type: ignore[type-var]  # it is a type of whole numbers
        if values.min() < limits.min or values.max() > limits.max:
            raise OverflowError(f"whole numbers that {np.dtype(dtype)} does not hold")
    if values.dtype.kind in "iu" and np.dtype(dtype).kind == "f":
        # By way of a double, as Python's integers in single rows: beyond 2^53 the last bit would differ.
        values = values.astype(np.float64)
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False)
