"""The model as the compared servers run it: what FRAUD_MODEL names, an ONNX file in ONNX Runtime or a pickle in scikit-learn.

Imported by them in environments of their own, so it needs nothing of this repository.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]
KINDS: dict[str, Any] = {
    "tensor(bool)": np.bool_,
    "tensor(int64)": np.int64,
    "tensor(float)": np.float32,
    "tensor(string)": np.object_,
}


class OnnxModel:
    """The graph, in one thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._kinds = {each.name: KINDS[each.type] for each in self._session.get_inputs()}

    def ask(self, columns: Columns) -> NDArray[Any]:
        """The probabilities of the rows; each column is an array of them."""
        feeds = {name: np.asarray(columns[name], dtype=kind).reshape(-1, 1) for name, kind in self._kinds.items()}
        return cast("NDArray[Any]", self._session.run(["probabilities"], feeds)[0])


class SklearnModel:
    """The fitted pipeline."""

    def __init__(self, path: Path) -> None:
        import cloudpickle
        import pandas as pd

        self._table = pd.DataFrame
        self._pipeline = cloudpickle.loads(path.read_bytes())
        self._names = list(self._pipeline.feature_names_in_)

    def ask(self, columns: Columns) -> NDArray[Any]:
        """The probabilities of the rows; each column is an array of them."""
        table = self._table({name: np.asarray(columns[name]).reshape(-1) for name in self._names})
        return cast("NDArray[Any]", self._pipeline.predict_proba(table))


def load() -> OnnxModel | SklearnModel:
    """Load what FRAUD_MODEL names."""
    path = Path(os.environ["FRAUD_MODEL"])
    return OnnxModel(path) if path.suffix == ".onnx" else SklearnModel(path)
