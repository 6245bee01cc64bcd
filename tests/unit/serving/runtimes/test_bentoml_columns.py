"""BentoML asked column by column: the same request and the same answers as row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import numpy as np
import pytest

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.bentoml.client import Predicted
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime
from tests.support.serving import column


class Bento:
    """A stand-in that keeps what it was asked and gives what it was told to."""

    def __init__(self, outputs: Mapping[str, Sequence[object]], classes: list[object] | None = None) -> None:
        self.asked: list[Mapping[str, Sequence[object]]] = []
        self._said = Predicted(cast("Any", outputs), classes)

    async def predict(
        self, model_name: str, version: int, columns: Mapping[str, Sequence[object]], params: Mapping[str, object]
    ) -> Predicted:
        self.asked.append(columns)
        return self._said


def runtime(bento: Bento, *specs: models_pb2.ColumnSpec) -> BentomlRuntime:
    """A runtime of a model with these columns."""
    version = models_pb2.ModelVersion(model_name="m", version=1)
    return BentomlRuntime(
        version=version, columns=columns_of(models_pb2.ModelSignature(inputs=specs)), backend=cast("Any", bento)
    )


async def test_columns_are_sent_as_rows_are() -> None:
    """Numbers, NaN, nulls, texts, times, bytes and tensors are the same JSON, whichever way they come."""
    bento = Bento({"prediction": [1, 2]})
    one = runtime(
        bento,
        column("number"),
        column("count", "long"),
        column("maybe", "long"),
        column("word", "string"),
        column("time", "datetime"),
        column("data", "binary"),
        column("single", "tensor(float64)", shape=[-1, 1]),
        column("vector", "tensor(float64)", shape=[-1, 2]),
    )
    time = datetime(2024, 1, 1)  # noqa: DTZ001  # as MLflow's columns have it
    await one.predict([[1.5, 1, None, "a", time, b"x", [1.0], [1.0, 2.0]], [math.nan, 2, 3, "b", time, b"y", [2.0], [3.0, 4.0]]])
    await one.predict_columns(
        [
            np.array([1.5, math.nan]),
            np.array([1, 2]),
            [None, 3],
            ["a", "b"],
            [time, time],
            [b"x", b"y"],
            np.array([1.0, 2.0]),
            np.array([[1.0, 2.0], [3.0, 4.0]]),
        ],
        2,
    )
    assert repr(bento.asked[0]) == repr(bento.asked[1])


async def test_answers_are_columns_with_the_probabilities_of_rows() -> None:
    """Numbers become arrays, the rest stays, and each row's probability is what a row alone would get."""
    bento = Bento({"prediction": ["a", "b"], "probability": [[0.2, 0.5, 0.3], [0.1, 0.2, 0.7]], "n": [1, 2]}, ["a", "b", "c"])
    one = runtime(bento, column("number"))
    rows = await one.predict([[1.0], [2.0]])
    columns = await one.predict_columns([np.array([1.0, 2.0])], 2)
    assert columns.outputs["prediction"] == ["a", "b"]
    assert isinstance(columns.outputs["n"], np.ndarray)
    assert columns.probabilities is not None
    assert columns.probabilities().tolist() == [row.probability for row in rows] == [0.2, 0.2]


async def test_an_answer_of_another_length_is_refused() -> None:
    """An answer that is not one value a row is BACKEND_FAILED."""
    one = runtime(Bento({"prediction": [1]}), column("number"))
    with pytest.raises(PlatformError) as caught:
        await one.predict_columns([np.array([1.0, 2.0])], 2)
    assert caught.value.reason_name == "BACKEND_FAILED"
