"""Reads tables and rows of other libraries, known by their methods: this client imports none of them.

A frame is a DataFrame of pandas or polars, or a Table or RecordBatch of Arrow. A row is a mapping, a pandas Series or a named
tuple.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ml_platform.errors import invalid


def is_frame(value: object) -> bool:
    """Whether a value is a table with named columns."""
    return _names(value) is not None


def columns_of(frame: Any, field: str) -> dict[str, list[Any]]:  # noqa: ANN401  # a frame
    """The columns of a frame as lists of Python values, by name.

    Raises:
        InvalidArgument: two columns have the same name.
    """
    names = [str(name) for name in _names(frame) or ()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise invalid(field, f"several columns are named {', '.join(map(repr, repeated))}")
    if callable(getattr(frame, "to_pydict", None)):  # Arrow
        return {str(name): values for name, values in frame.to_pydict().items()}
    # pandas and polars: the former's tolist and the latter's to_list make the same of a column.
    return {str(name): _listed(frame[name]) for name in frame.columns}


def rows_of(frame: Any, field: str) -> list[dict[str, Any]]:  # noqa: ANN401  # a frame
    """The rows of a frame as dictionaries of Python values."""
    columns = columns_of(frame, field)
    if not columns and len(frame):
        raise invalid(field, "the DataFrame has no columns")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def as_mapping(row: Any, field: str) -> Mapping[str, Any]:  # noqa: ANN401  # whatever a caller takes for a row
    """A row as a mapping of names to values.

    Raises:
        InvalidArgument: it is no row; the error says how to make one of what came.
    """
    if isinstance(row, Mapping):
        return row
    if callable(asdict := getattr(row, "_asdict", None)):
        named: Mapping[str, Any] = asdict()
        return named
    if _is_series(row):
        return {str(name): value for name, value in zip(row.index, _listed(row), strict=True)}
    if is_frame(row):
        raise invalid(field, f"one row is wanted, not a {type(row).__name__}; many rows go to predict_many")
    hint = "; of df.iterrows() take the second of each pair, or send df itself" if isinstance(row, tuple) else _hint(row)
    raise invalid(field, f"a mapping of names to values is wanted, not {type(row).__name__}{hint}")


def as_rows(rows: object, field: str) -> Iterable[Mapping[str, Any]]:
    """Several rows: a frame, an iterable of rows, or a single row."""
    if is_frame(rows):
        return rows_of(rows, field)
    if isinstance(rows, Mapping) or hasattr(rows, "_asdict") or _is_series(rows):
        return [as_mapping(rows, field)]
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise invalid(field, f"a list of mappings or a DataFrame is wanted, not {type(rows).__name__}{_hint(rows)}")
    return (as_mapping(row, f"{field}[{at}]") for at, row in enumerate(rows))


def as_stream(rows: object, field: str) -> Iterable[Mapping[str, Any]]:
    """Many rows, one after the other and perhaps endlessly: a frame, or an iterable of rows."""
    if isinstance(rows, Mapping):
        raise invalid(field, "a list of mappings or a DataFrame is wanted; a single row goes to predict")
    return as_rows(rows, field)


def _names(value: Any) -> Sequence[Any] | None:  # noqa: ANN401  # anything
    """The names of a frame's columns; None for what is no frame."""
    if isinstance(value, (Mapping, str, bytes, list, tuple)) or _is_lazy(value):
        return None
    if callable(getattr(value, "to_pydict", None)) and hasattr(value, "column_names"):
        return list(value.column_names)
    if hasattr(value, "columns") and (hasattr(value, "iterrows") or hasattr(value, "iter_rows")):
        return list(value.columns)
    return None


def _is_lazy(value: object) -> bool:
    """Whether a value is a LazyFrame of polars, whose columns are not known without work."""
    return hasattr(type(value), "collect_schema") and not hasattr(type(value), "iter_rows")


def _hint(rows: object) -> str:
    return "; call its collect() first" if _is_lazy(rows) else ""


def _is_series(value: object) -> bool:
    """Whether a value is a Series of pandas, as a row of a DataFrame is."""
    return hasattr(value, "index") and callable(getattr(value, "to_dict", None)) and not is_frame(value)


def _listed(column: Any) -> list[Any]:  # noqa: ANN401  # a column of pandas or polars
    to_list = getattr(column, "tolist", None) or column.to_list
    values: list[Any] = to_list()
    return values
