"""BentoML, in a process of its own: every MLflow flavour that is not ONNX."""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import structlog

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.bentoml.errors import invalid_response
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.columns import Values, as_values
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.outputs.columns import ColumnPredictions, likeliest_of
from ml_platform_server.serving.outputs.prediction import Prediction, probability, to_predictions
from ml_platform_server.serving.runtimes import Output
from ml_platform_server.settings import ServingSettings

_log = structlog.get_logger(__name__)

# What deploy/bentoml calls an only output that the signature does not name, and the class probabilities.
PREDICTION = "prediction"
PROBABILITY = "probability"


class BentomlFactory:
    """See RuntimeFactory. BentoML opens the files itself, of every MLflow flavour.

    Args:
        backend: the client of BentoML.
        settings: the section `serving`.
    """

    name = "bentoml"
    needs_files = False

    def __init__(self, *, backend: BentomlBackend, settings: ServingSettings) -> None:
        self._backend = backend
        self.max_concurrent_batches = settings.bentoml_max_concurrent_batches

    def accepts(self, version: models_pb2.ModelVersion) -> bool:  # noqa: ARG002  # it takes them all
        """See RuntimeFactory."""
        return True

    async def load(
        self,
        version: models_pb2.ModelVersion,
        columns: Sequence[Column],
        files: Path,  # noqa: ARG002  # there are none
    ) -> tuple[BentomlRuntime, tuple[Column, ...]]:
        """See RuntimeFactory."""
        runtime = BentomlRuntime(version=version, columns=columns, backend=self._backend)
        await runtime.warm()
        return runtime, tuple(columns)


class BentomlRuntime:
    """One model version that BentoML executes; one HTTP request a batch."""

    def __init__(self, *, version: models_pb2.ModelVersion, columns: Sequence[Column], backend: BentomlBackend) -> None:
        self._model_name = version.model_name
        self._version = version.version
        self._columns = columns
        self._backend = backend
        self._params: Mapping[str, object] = {}
        self.platform = "bentoml"
        self.matrix = ""
        specs = version.signature.outputs
        self.outputs: Sequence[Output] = [
            (spec.name or (PREDICTION if len(specs) == 1 else f"output_{at}"), spec.type, (-1, *spec.shape[1:]))
            for at, spec in enumerate(specs)
        ]

    def with_params(self, params: Mapping[str, object]) -> BentomlRuntime:
        """The same version with these params of its signature."""
        bound = copy.copy(self)
        bound._params = {name: _json(value) for name, value in params.items()}
        return bound

    async def warm(self) -> None:
        """Have BentoML load the version. A failure is left to the first prediction, which tells it to somebody."""
        try:
            await self._backend.load(self._model_name, self._version)
        except PlatformError as error:
            _log.warning("bentoml_not_warmed", model=self._model_name, version=self._version, reason=error.reason_name)

    async def predict(self, rows: Sequence[Sequence[object]]) -> list[Prediction]:
        """Answer N rows.

        Raises:
            PlatformError: INPUT_REJECTED, MODEL_FAILED, MODEL_ARTIFACT_MISSING, BACKEND_UNAVAILABLE, OVERLOADED,
                DEADLINE_EXCEEDED, BACKEND_FAILED.
        """
        columns = {column.name: [_json(row[at]) for row in rows] for at, column in enumerate(self._columns)}
        response = await self._backend.predict(self._model_name, self._version, columns, self._params)
        if any(len(values) != len(rows) for values in response.outputs.values()):
            raise invalid_response()
        given = response.outputs.get(PROBABILITY) if response.classes is not None else None
        if given is None:
            return list[Prediction](to_predictions(response.outputs))
        labels = next(iter(response.outputs.values()))
        return list[Prediction](
            to_predictions(
                response.outputs, [probability(label, row, response.classes) for label, row in zip(labels, given, strict=True)]
            )
        )

    async def predict_columns(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        """Answer N rows that come as columns.

        Raises:
            PlatformError: as `predict`.
        """
        sent = {column.name: _json_column(values, column) for column, values in zip(self._columns, columns, strict=True)}
        response = await self._backend.predict(self._model_name, self._version, sent, self._params)
        if any(len(values) != rows for values in response.outputs.values()):
            raise invalid_response()
        outputs = {name: as_values(values) for name, values in response.outputs.items()}
        given = response.outputs.get(PROBABILITY) if response.classes is not None else None
        if given is None:
            return ColumnPredictions(outputs)
        labels = next(iter(response.outputs.values()))
        return ColumnPredictions(outputs, partial(likeliest_of, labels, given, response.classes))


def _json_column(values: Values, column: Column) -> list[object]:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    # A tensor's row is a list, were it of a single number.
    return [[value] if column.shape and not isinstance(value, list) else _json(value) for value in values]


def _json(value: object) -> object:
    """A column's value as Python's JSON has it, NaN and infinity too. The service turns it back by the signature."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_json(item) for item in value]
    return value
