"""JSON columns, as the model's signature wants them.

NaN and infinity are numbers here: they come as Python's JSON writes them, NaN and Infinity.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

from model_runner.failures import InputInvalid

Columns = dict[str, list[Any]]

# MLflow's types whose pandas columns cannot hold a null.
_WITHOUT_NULL = ("integer", "long")
# What pandas calls MLflow's types, without and with missing values.
_PANDAS = {
    "integer": ("int32", "object"),
    "long": ("int64", "object"),
    "float": ("float32", "float32"),
    "double": ("float64", "float64"),
    "boolean": ("bool", "object"),
    "string": ("object", "object"),
}


def by_own_names(columns: Columns, schema: Any) -> dict[Any, list[Any]]:  # noqa: ANN401  # mlflow.types.Schema, or None
    """The columns by the names that the signature has for them. Those may be numbers, which requests have as text."""
    if schema is None or not schema.has_input_names():
        return dict(columns)
    own = {str(name): name for name in schema.input_names()}
    return {own.get(name, name): values for name, values in columns.items()}


def groups(columns: Columns, schema: Any) -> list[tuple[list[int], Columns]]:  # noqa: ANN401  # mlflow.types.Schema, or None
    """The rows, by position, grouped by which optional integers they lack, and each group's columns without these.

    MLflow takes no null in a column of integers; a row without the value has to come without the column.
    """
    rows = len(next(iter(columns.values()), ()))
    gaps = [name for name in _nullable_integers(schema) if None in columns.get(name, ())]
    if not gaps:
        return [(list(range(rows)), columns)]
    found: dict[tuple[bool, ...], list[int]] = {}
    for at in range(rows):
        found.setdefault(tuple(columns[name][at] is None for name in gaps), []).append(at)
    return [
        (
            ats,
            {
                name: [values[at] for at in ats]
                for name, values in columns.items()
                if name not in gaps or not absent[gaps.index(name)]
            },
        )
        for absent, ats in found.items()
    ]


def _nullable_integers(schema: Any) -> list[str]:  # noqa: ANN401
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return []
    return [spec.name for spec in schema.inputs if not spec.required and getattr(spec.type, "name", "") in _WITHOUT_NULL]


def model_input(columns: Columns, schema: Any) -> Any:  # noqa: ANN401  # mlflow.types.Schema, or None
    """What `PyFuncModel.predict` takes: a table, an array, or arrays by name, as the signature says.

    An input that the signature does not name takes the values at its place. An optional one may be left out.

    Raises:
        InputInvalid: a value that is none of its input's type.
    """
    if schema is None:
        return pd.DataFrame(columns)
    if schema.is_tensor_spec():
        return _tensors(columns, schema)
    if not schema.has_input_names():
        places = enumerate(zip(columns, schema.inputs, strict=True))
        return pd.DataFrame({at: _series(columns[name], spec, name) for at, (name, spec) in places})
    sent = [spec for spec in schema.inputs if spec.required or spec.name in columns]
    return pd.DataFrame({spec.name: _series(columns[spec.name], spec, spec.name) for spec in sent})


def misfit(given: Any, schema: Any) -> str | None:  # noqa: ANN401
    """The first input that MLflow refuses to hand to the model, by its signature; None if there is none."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes seconds
    from mlflow.models import validate_schema  # noqa: PLC0415  # the same
    from mlflow.types import Schema  # noqa: PLC0415  # the same

    if not isinstance(given, pd.DataFrame) or schema is None:
        return None
    for at, spec in enumerate(schema.inputs):
        name = spec.name if schema.has_input_names() else at
        if name in given:
            try:
                validate_schema(given[[name]], Schema([spec]))
            except (MlflowException, ValueError, TypeError):
                return str(name)
    return None


def _tensors(columns: Columns, schema: Any) -> Any:  # noqa: ANN401
    if not schema.has_input_names():
        (values,) = columns.values()
        return _tensor(values, schema.inputs[0], next(iter(columns)))
    return {spec.name: _tensor(columns[spec.name], spec, spec.name) for spec in schema.inputs}


def _tensor(values: list[Any], spec: Any, name: str) -> Any:  # noqa: ANN401
    try:
        return np.array(values, spec.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputInvalid(f"expected a tensor of {spec.type}", name) from error


def _series(values: list[Any], spec: Any, name: str) -> Any:  # noqa: ANN401  # pandas comes without types
    try:
        return _typed(values, spec.type)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputInvalid(f"expected values of the type {getattr(spec.type, 'name', spec.type)}", name) from error


def _typed(values: list[Any], mlflow_type: Any) -> Any:  # noqa: ANN401
    kind = getattr(mlflow_type, "name", "")
    if kind == "datetime":
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="object"), format="ISO8601"), dtype="datetime64[ns]")
    if kind == "binary":
        return pd.Series([None if value is None else base64.b64decode(value) for value in values], dtype="object")
    if not kind:
        return pd.Series([_listed(value, mlflow_type) for value in values], dtype="object")
    whole, gappy = _PANDAS.get(kind, ("object", "object"))
    return pd.Series(values, dtype=gappy if None in values else whole)


def _listed(value: Any, mlflow_type: Any) -> Any:  # noqa: ANN401
    """A list as an array of its elements' own type, since MLflow would take JSON's integers for those of 64 bits."""
    element = getattr(mlflow_type, "dtype", None)
    if not isinstance(value, list) or element is None:
        return value
    if getattr(element, "name", "") in ("integer", "long", "float", "double", "boolean") and None not in value:
        return np.array(value, element.to_numpy())
    return [_listed(item, element) for item in value]
