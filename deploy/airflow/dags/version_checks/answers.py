"""What a version answers row by row, asked through MLflow or through its graph, in the form that callers would get."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from version_checks.converters import PROBABILITY
from version_checks.estimators import Estimator
from version_checks.fields import Field, NotConvertible, Row

PREDICTION = "prediction"
"""What the serving side calls an answer that the signature does not name."""

Answer = dict[str, Any]
"""A row's outputs by name."""

_PANDAS = {
    "integer": ("int32", "Int32"),
    "long": ("int64", "Int64"),
    "float": ("float32", "float32"),
    "double": ("float64", "float64"),
    "boolean": ("bool", "object"),
    "string": ("object", "object"),
}
"""What pandas calls MLflow's types, without and with missing values: as the serving side builds its tables."""

_ARRAYS = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


@dataclass(frozen=True)
class Failure:
    """A row without an answer."""

    why: str


Ask = Callable[[Sequence[Row]], list[Answer]]
"""Answers rows; raises whatever it raises if one of them is bad."""


def outcomes(ask: Ask, rows: Sequence[Row]) -> list[Answer | Failure]:
    """The answer to each row, or why there is none.

    Raises:
        NotConvertible: the output does not have one entry per row. No row is at fault, and a single row would hide it.
    """
    if not rows:
        return []
    try:
        return [*ask(rows)]
    except NotConvertible:
        raise
    except Exception as error:  # noqa: BLE001  # models are somebody else's code and may raise anything
        if len(rows) == 1:
            return [Failure(" ".join(str(error).split())[:200] or type(error).__name__)]
    half = len(rows) // 2
    return [*outcomes(ask, rows[:half]), *outcomes(ask, rows[half:])]


def output_name(schema: Any) -> str:  # noqa: ANN401  # mlflow.types.Schema, or None
    """What callers know the answer as."""
    named = schema is not None and len(schema.inputs) == 1 and schema.has_input_names()
    return str(schema.input_names()[0]) if named else PREDICTION


class Original:
    """The version as MLflow loads it, asked as the serving side asks it."""

    def __init__(self, model: Any, estimator: Estimator, fields: Sequence[Field]) -> None:  # noqa: ANN401  # an MLflow pyfunc model
        self._model = model
        self._estimator = estimator
        self._fields = fields
        self.output = output_name(model.metadata.get_output_schema())

    def __call__(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer rows."""
        given = table(self._fields, rows)
        answers = {self.output: per_row(self._model.predict(given), len(rows))}
        if self._estimator.tells_probabilities:
            answers[PROBABILITY] = per_row(self._estimator.model.predict_proba(given), len(rows))
        return [dict(zip(answers, values, strict=True)) for values in zip(*answers.values(), strict=True)]


class Graph:
    """A graph, fed as the platform's server feeds it."""

    def __init__(self, graph: bytes, fields: Sequence[Field]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._fields = fields

    def __call__(self, rows: Sequence[Row]) -> list[Answer]:
        """Answer rows."""
        places = {field.name: at for at, field in enumerate(self._fields)}
        feeds: dict[str, Any] = {}
        for given in self._session.get_inputs():
            values = [row[places[given.name]] for row in rows]
            if any(value is None for value in values) and given.type not in ("tensor(float)", "tensor(double)"):
                raise ValueError(f"the column {given.name} may not be missing")
            feeds[given.name] = np.array(values, _ARRAYS[given.type]).reshape(len(rows), -1)
        found = [per_row(output, len(rows)) for output in self._session.run(None, feeds)]
        return [dict(zip(self._outputs, values, strict=True)) for values in zip(*found, strict=True)]


def loaded_graph(graph: Any, fields: Sequence[Field]) -> Graph:  # noqa: ANN401  # onnx.ModelProto
    """A graph, ready to be asked.

    Raises:
        NotConvertible: ONNX Runtime does not take it.
    """
    try:
        return Graph(graph.SerializeToString(), fields)
    except Exception as error:  # its errors have no common class
        raise NotConvertible(f"ONNX Runtime does not take the graph: {' '.join(str(error).split())[:200]}") from error


def table(fields: Sequence[Field], rows: Sequence[Row]) -> Any:  # noqa: ANN401  # pandas comes without types
    """Rows as MLflow's models take them."""
    if fields[0].width:
        return np.array([row[0] for row in rows], _PANDAS[fields[0].kind][0])
    columns = {field.name: [row[at] for row in rows] for at, field in enumerate(fields)}
    return pd.DataFrame(
        {field.name: pd.Series(columns[field.name], dtype=_PANDAS[field.kind][None in columns[field.name]]) for field in fields}
    )


def per_row(answer: Any, rows: int) -> list[Any]:  # noqa: ANN401  # whatever models give
    """One plain value a row, a list where a row has several.

    Raises:
        NotConvertible: the model does not answer row by row.
    """
    values = answer.to_numpy() if isinstance(answer, pd.Series | pd.DataFrame) else answer
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    if not isinstance(plain, list) or len(plain) != rows:
        raise NotConvertible("It does not answer with one value, or one list of values, for each row.")
    return [row[0] if isinstance(row, list) and len(row) == 1 else row for row in plain]


def nothing(value: object) -> bool:
    """Whether JSON has nothing but null for it."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))
