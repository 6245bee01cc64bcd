"""Asks a version once, with its own example or with a row made up from its signature, and looks through the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from version_checks.loading import Data, Model

ONES: dict[str, Any] = {
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "boolean": True,
    "string": "a",
    "datetime": "2024-01-01T00:00:00",
}
"""A value for each type of column, for models that were logged without an example. Ones, because logarithms dislike zeros."""

TELLING = frozenset({"integer", "long", "float", "double", "boolean", "datetime"})
"""Types of which any value should do. A made-up text may be a category that the model never saw, so a failure proves nothing."""

CODES = {"integer": "int32", "float": "float32", "datetime": "datetime64[ns]"}
"""Types that pandas would not choose by itself."""

ARRAYS = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
    "tensor(string)": "object",
}
"""The arrays that the inputs of an ONNX graph take."""


def asked(model: Model, path: Path, inputs: list[dict[str, Any]], example: Data | None) -> dict[str, str]:
    """The model's `answer` to its own example, or to a row made up from its signature, and the `fault` or the `doubt` in it."""
    nothing = {"answer": "", "fault": "", "doubt": ""}
    if not inputs:
        return {**nothing, "doubt": "was not asked, for nobody knows what it takes"}
    try:
        answer = answer_of(model, path, made_up(inputs) if example is None else example)
    except Exception as error:  # noqa: BLE001  # the model is somebody else's code and may raise anything
        if example is None and any(column["type"] not in TELLING for column in inputs):
            return {**nothing, "doubt": f"fails on a made-up row: {error}"}
        what = "a made-up row of ones" if example is None else "its own input example"
        return {**nothing, "fault": f"fails on {what}: {error}"}
    return {**nothing, "answer": shown(answer), "fault": fault_of(answer)}


def answer_of(model: Model, path: Path, given: Data) -> Data:
    """What the version says.

    An ONNX graph is asked as the platform's server asks it: MLflow hands on the columns of a table without the second dimension
    that converters give them, so it fails on graphs that are in order.
    """
    if "onnx" not in model.metadata.flavors or not hasattr(given, "columns"):
        return model.predict(given)
    import onnxruntime

    graph = path / model.metadata.flavors["onnx"]["data"]
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    if len(inputs) == 1 and inputs[0].name not in given.columns:
        return session.run(None, {inputs[0].name: given.to_numpy(ARRAYS[inputs[0].type])})
    feeds = {each.name: given[each.name].to_numpy(ARRAYS[each.type]).reshape(-1, *(1 for _ in each.shape[1:])) for each in inputs}
    return dict(zip((output.name for output in session.get_outputs()), session.run(None, feeds), strict=True))


def made_up(inputs: list[dict[str, Any]]) -> Data:
    """A row that fits a signature, as good as it can be guessed."""
    import numpy as np
    import pandas as pd

    tensors = {column.get("name", ""): column["tensor-spec"] for column in inputs if column["type"] == "tensor"}
    if tensors:
        arrays = {name: np.ones([max(1, size) for size in spec["shape"]], spec["dtype"]) for name, spec in tensors.items()}
        return arrays if all(arrays) else next(iter(arrays.values()))
    row = pd.DataFrame({column.get("name", at): [ONES.get(column["type"])] for at, column in enumerate(inputs)})
    return row.astype({row.columns[at]: CODES[column["type"]] for at, column in enumerate(inputs) if column["type"] in CODES})


def fault_of(answer: Data) -> str:
    """What is wrong with a prediction; empty if nothing is."""
    values = list(leaves(answer))
    if not values:
        return "gives an empty prediction"
    if any(value is None or (isinstance(value, float) and not math.isfinite(value)) for value in values):
        return f"gives a prediction that is not finite: {shown(answer)}"
    return ""


def shown(answer: Data) -> str:
    """A prediction, as far as it fits on a line."""
    return " ".join(str(answer).split())[:200]


def leaves(value: Data) -> Iterator[object]:
    """The single values in whatever a model returns: a table, an array, or lists and dicts of them."""
    if hasattr(value, "to_dict"):
        value = value.to_dict("list") if hasattr(value, "columns") else list(value)
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value
