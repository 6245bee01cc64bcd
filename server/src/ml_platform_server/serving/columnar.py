"""Answers batches that come as columns, at a fraction of what rows cost: whole columns go through NumPy into the model and back.

Rows with anything wrong about them are left out and reported; what is said of them is what PredictionService says of single rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_platform.v1.predictions_pb2 import BatchPredictRequest, BatchPredictResponse, DegradedRow, OutputColumn, RowError
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.batch_replies import RowErrors, head
from ml_platform_server.serving.bindings import Binding
from ml_platform_server.serving.column_answers import ColumnAnswers, Outputs
from ml_platform_server.serving.column_conversion import convert
from ml_platform_server.serving.column_features import ColumnFeatures
from ml_platform_server.serving.column_values import Array, Sent, Values, packed_doubles, received, told
from ml_platform_server.serving.halving import by_halves
from ml_platform_server.serving.loaded import LoadedModel
from ml_platform_server.serving.router import ServedVersion
from ml_platform_server.serving.rows import unsuitable

# Rows that are answered together. More would hold up the other calls of this process; fewer would cost more reads and runs.
SLICE = 2048


async def predict_columns(served: ServedVersion, request: BatchPredictRequest, call: Call) -> BatchPredictResponse:
    """Answer the columns of a batch.

    Raises:
        PlatformError: INVALID_FIELDS, and what kept the model itself from answering.
    """
    sent, rows = received(request.columns)
    call.facts["rows"] = rows
    batch = _Batch(served, rows)
    for start in range(0, rows, SLICE):
        stop = min(start + SLICE, rows)
        await batch.answer({name: column.part(start, stop) for name, column in sent.items()}, start, stop - start)
        await asyncio.sleep(0)  # the other calls of this process have waited for this slice
    response = batch.response(call.request_id)
    call.facts.update(prediction_id=response.prediction_id, row_errors=len(response.errors))
    return response


@dataclass(slots=True)
class Inputs:
    """Some rows on their way to the model: its columns, in their order, and what keeps rows from being predicted."""

    columns: list[Values]
    errors: dict[int, PlatformError]
    degraded: Mapping[int, Sequence[str]]


class _Batch:
    """The answers of one batch as they gather."""

    def __init__(self, served: ServedVersion, rows: int) -> None:
        self._served = served
        self._outputs = Outputs(rows)
        self._errors: dict[int, PlatformError] = {}
        self._degraded: dict[int, Sequence[str]] = {}

    async def answer(self, sent: Mapping[str, Sent], start: int, rows: int) -> None:
        """Answer the rows from `start`."""
        inputs = await complete(self._served, sent, rows)
        errors = inputs.errors
        columns = inputs.columns
        good = np.arange(rows)
        if errors:
            good = np.delete(good, sorted(errors))
            columns = [_chosen(column, good) for column in columns]
        if good.size:
            await self._run(columns, good + start)
        self._errors.update((row + start, error) for row, error in errors.items())
        self._degraded.update((row + start, refs) for row, refs in inputs.degraded.items() if row not in errors)

    async def _run(self, columns: Sequence[Values], rows: Array) -> None:
        """Run the model; a row that it fails on has its own error."""

        def answered(part: slice) -> Awaitable[ColumnAnswers]:
            return self._served.model.answer_columns([column[part] for column in columns], part.stop - part.start)

        for part, said in await by_halves(answered, len(rows)):
            if isinstance(said, PlatformError):
                self._errors.update(dict.fromkeys(rows[part].tolist(), said))
            else:
                self._outputs.add(rows[part], said)

    def response(self, request_id: str) -> BatchPredictResponse:
        """All of it."""
        response = head(self._served)
        failed = sorted(self._errors)
        for name, values in self._outputs.columns().items():
            response.outputs.append(OutputColumn(name=name, values=told(values, failed)))
        probabilities = self._outputs.probabilities()
        if probabilities is not None:
            response.probabilities.MergeFrom(packed_doubles(probabilities).values)
        errors = RowErrors(request_id)
        response.errors.extend(RowError(row=row, error=errors.status(self._errors[row])) for row in failed)
        for error in self._errors.values():
            self._served.model.metrics.error(error.reason_name)
        degraded = sorted(set(self._degraded).difference(failed))
        response.degraded_rows.extend(DegradedRow(row=row, degraded_features=self._degraded[row]) for row in degraded)
        return response


async def complete(served: ServedVersion, sent: Mapping[str, Sent], rows: int) -> Inputs:
    """Turn columns as they were sent into the model's, with the features that were not sent."""
    model = served.model
    places: dict[int, str] = {at: column.name for at, column in enumerate(model.columns) if column.name in sent}
    taken: dict[int, Values] = {}
    errors = _taken(model, sent, places, taken)
    binding = None
    missing = [at for at in range(len(model.columns)) if at not in places]
    degraded: Mapping[int, Sequence[str]] = {}
    if missing:
        binding = await binding_of(model)
        aliases = _aliases(binding, missing, sent)
        late = _taken(model, sent, aliases, taken)
        missing = [at for at in missing if at not in aliases]
        if missing:
            features = ColumnFeatures(
                columns=model.columns,
                read=model.enrichment.read_columns,
                enrich=model.enrichment.enrich,
                policy=served.policy,
                metrics=model.metrics,
            )
            completed = await features.complete(sent, rows, missing, binding)
            taken.update(completed.values)
            degraded = completed.degraded
            late = {**completed.errors, **late}
        errors = {**late, **errors}
    return Inputs([taken[at] for at in range(len(model.columns))], errors, degraded)


def _taken(
    model: LoadedModel, sent: Mapping[str, Sent], names: Mapping[int, str], taken: dict[int, Values]
) -> dict[int, PlatformError]:
    """Convert the columns that were sent; gives the errors of the rows with values that do not fit."""
    violations: dict[int, list[Violation]] = {}
    for at, name in names.items():
        converted = convert(model.columns[at], sent[name])
        taken[at] = converted.values
        for row, problem in converted.bad.items():
            violations.setdefault(row, []).append(Violation(f"inputs.{name}", problem))
    return {row: unsuitable(found) for row, found in violations.items()}


async def binding_of(model: LoadedModel) -> Binding | None:
    """Which of a model's columns the feature store supplies; None if it supplies none, or does not answer."""
    if model.enrichment.binding is None:
        await model.enrichment.prepare()
    return model.enrichment.binding


def _aliases(binding: Binding | None, missing: Sequence[int], sent: Mapping[str, Sent]) -> dict[int, str]:
    """Which of the missing columns were sent under another name."""
    if binding is None:
        return {}
    found = {at: next((alias for alias in binding.aliases.get(at, ()) if alias in sent), "") for at in missing}
    return {at: name for at, name in found.items() if name}


def _chosen(values: Values, rows: Array) -> Values:
    return values[rows] if isinstance(values, np.ndarray) else [values[at] for at in rows.tolist()]
