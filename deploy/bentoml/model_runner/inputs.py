"""JSON columns, as the model's signature wants them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pandas as pd

# What pandas calls MLflow's types, without and with missing values.
_PANDAS = {
    "integer": ("int32", "Int32"),
    "long": ("int64", "Int64"),
    "float": ("float32", "float32"),
    "double": ("float64", "float64"),
    "boolean": ("bool", "object"),
    "string": ("object", "object"),
}


def model_input(columns: dict[str, list[Any]], schema: Any) -> Any:  # noqa: ANN401  # mlflow.types.Schema, or None
    """What `PyFuncModel.predict` takes: a table, an array, or arrays by name, as the signature says.

    An input that the signature does not name takes the values at its place.
    """
    if schema is None:
        return pd.DataFrame(columns)
    if schema.is_tensor_spec():
        return _tensors(columns, schema)
    specs = zip(_names(columns, schema), schema.inputs, strict=True)
    table = {name: _series(columns[name], getattr(spec.type, "name", "")) for name, spec in specs}
    return pd.DataFrame(table) if schema.has_input_names() else pd.DataFrame(dict(enumerate(table.values())))


def _names(columns: dict[str, list[Any]], schema: Any) -> list[str]:  # noqa: ANN401
    return list(schema.input_names()) if schema.has_input_names() else list(columns)


def _tensors(columns: dict[str, list[Any]], schema: Any) -> Any:  # noqa: ANN401
    if not schema.has_input_names():
        (values,) = columns.values()
        return np.array(values, schema.inputs[0].type)
    return {spec.name: np.array(columns[spec.name], spec.type) for spec in schema.inputs}


def _series(values: list[Any], kind: str) -> Any:  # noqa: ANN401  # pandas comes without types
    if kind == "datetime":
        return pd.Series(pd.to_datetime(pd.Series(values, dtype="object"), format="ISO8601"), dtype="datetime64[ns]")
    if kind == "binary":
        return pd.Series([None if value is None else base64.b64decode(value) for value in values], dtype="object")
    whole, gappy = _PANDAS.get(kind, ("object", "object"))
    return pd.Series(values, dtype=gappy if None in values else whole)
