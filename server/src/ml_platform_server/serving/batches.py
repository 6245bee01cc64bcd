"""Answers many rows that came in one call, each with its own prediction or its own error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from google.protobuf import struct_pb2

from ml_platform.v1.deployments_pb2 import Environment
from ml_platform.v1.predictions_pb2 import BatchPredictRequest, BatchPredictResponse, RowPrediction, RowResult
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, invalid
from ml_platform_server.serving.answers import Answer
from ml_platform_server.serving.batch_replies import RowErrors, head
from ml_platform_server.serving.columnar import predict_columns
from ml_platform_server.serving.replies import reply
from ml_platform_server.serving.router import ServedVersion
from ml_platform_server.serving.rows import Row

# Rows that are answered together. More would hold up the other calls of this process; fewer would cost more reads and runs.
SLICE = 256


Find = Callable[[str, Environment.ValueType], Awaitable[ServedVersion]]


class Batches:
    """Answers batches.

    Args:
        find: gives the version that answers for a model in an environment.
    """

    def __init__(self, *, find: Find) -> None:
        self._find = find

    async def predict(self, request: BatchPredictRequest, call: Call) -> BatchPredictResponse:
        """Answer a valid request.

        Raises:
            PlatformError: as the contract says for PredictionService.BatchPredict.
        """
        _check(request)
        served = await self._find(request.model_name, request.environment)
        answer = predict_rows if request.rows else predict_columns
        response = await answer(served, request, call)
        call.facts.update(
            model=response.model_name,
            version=response.model_version,
            prediction_id=response.prediction_id,
            row_errors=len(response.errors) + sum(result.HasField("error") for result in response.results),
        )
        return response


def _check(request: BatchPredictRequest) -> None:
    if bool(request.rows) == bool(request.columns):
        raise invalid("rows", "either rows or columns must be sent, and not both")
    if request.columns and request.include_features:
        raise invalid("include_features", "is for rows only; columns are answered without them")


async def predict_rows(served: ServedVersion, request: BatchPredictRequest, call: Call) -> BatchPredictResponse:
    """Answer the rows of a batch, each with its prediction or its error.

    Raises:
        PlatformError: what kept the model itself from answering.
    """
    response = head(served)
    errors = RowErrors(call.request_id)
    call.facts["rows"] = len(request.rows)
    for start in range(0, len(request.rows), SLICE):
        rows, outcomes = await _outcomes(served, request.rows[start : start + SLICE])
        for row, outcome in zip(rows, outcomes, strict=True):
            response.results.append(_result(served, row, outcome, errors, include_features=request.include_features))
        await asyncio.sleep(0)  # the other calls of this process have waited for this slice
    return response


async def _outcomes(
    served: ServedVersion, part: Sequence[struct_pb2.Struct]
) -> tuple[list[Row | None], list[Answer | PlatformError]]:
    """The rows as they were decoded and completed, None for one that could not be decoded, and what became of each."""
    rows: list[Row | None] = []
    errors: dict[int, PlatformError] = {}
    for at, inputs in enumerate(part):
        try:
            rows.append(served.decode(inputs.fields))
        except PlatformError as error:
            rows.append(None)
            errors[at] = error
    found = iter(await served.model.answer([row for row in rows if row is not None]))
    outcomes = [errors[at] if row is None else next(found) for at, row in enumerate(rows)]
    return rows, outcomes


def _result(
    served: ServedVersion, row: Row | None, outcome: Answer | PlatformError, errors: RowErrors, *, include_features: bool
) -> RowResult:
    if row is None or isinstance(outcome, PlatformError):
        assert isinstance(outcome, PlatformError)  # noqa: S101  # a row that could not be decoded has an error
        served.model.metrics.error(outcome.reason_name)
        return RowResult(error=errors.status(outcome))
    said = reply(served, row, outcome, include_features=include_features)
    prediction = RowPrediction(
        prediction=said.prediction, outputs=said.outputs, features=said.features, degraded_features=said.degraded_features
    )
    if said.HasField("probability"):
        prediction.probability = said.probability
    return RowResult(prediction=prediction)
