"""Answers batches that come as columns, at a fraction of what rows cost: whole columns go through NumPy into the model and back.

Rows with anything wrong about them are left out and reported; what is said of them is what PredictionService says of single rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ml_platform.v1.predictions_pb2 import BatchPredictRequest, BatchPredictResponse, DegradedRow
from ml_platform_server import protobuf_encoding
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.features.binding import Binding
from ml_platform_server.serving.features.enrich_columns import ColumnFeatures
from ml_platform_server.serving.inputs.columns import Array, ColumnData, Values, decode_columns
from ml_platform_server.serving.inputs.convert import convert_in_turns
from ml_platform_server.serving.inputs.rows import unsuitable
from ml_platform_server.serving.inputs.signature import MOST_NAMED
from ml_platform_server.serving.model import LoadedModel
from ml_platform_server.serving.outputs.columns import Outputs
from ml_platform_server.serving.outputs.encode import is_infinite, is_integer
from ml_platform_server.serving.outputs.encode_columns import encode_column, packed_doubles
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.serving.rpc.batch_replies import ResponseParts, RowErrors, response_prefix
from ml_platform_server.serving.rpc.replies import new_prediction_id
from ml_platform_server.turns import Turn

# Rows that are answered together. More would hold up the other calls of this process; fewer would cost more reads and runs.
CHUNK_ROWS = 2048
# The tags of BatchPredictResponse's fields 6, 7 and 8, of the fields of an OutputColumn, and of a RowError's first field.
_OUTPUT, _PROBABILITIES, _ERROR = b"\x32", b"\x3a", b"\x42"
_NAME, _VALUES = b"\x0a", b"\x12"
_ROW = b"\x08"


async def predict_columns(served: ServedVersion, request: BatchPredictRequest, call: Call) -> bytes:
    """Answer the columns of a batch, with a BatchPredictResponse on the wire.

    Raises:
        PlatformError: INVALID_FIELDS, REPLY_TOO_LARGE, and what kept the model itself from answering.
    """
    sent, rows = await decode_columns(request.columns)
    call.log_fields["rows"] = rows
    batch = _Batch(served, rows, call)
    for start in range(0, rows, CHUNK_ROWS):
        if start:
            await asyncio.sleep(0)  # the other calls of this process have waited for the slice before
        stop = min(start + CHUNK_ROWS, rows)
        part = sent if stop - start == rows else {name: column.part(start, stop) for name, column in sent.items()}
        await batch.answer(part, start, stop - start)
    prediction_id = call.log_fields["prediction_id"] = new_prediction_id()
    call.log_fields["row_errors"] = len(batch.failed)
    unused = served.model.enrichment.unused(sent)
    if unused:
        call.log_fields["unused_inputs"] = unused
    return await batch.response(prediction_id, unused)


@dataclass(slots=True)
class Inputs:
    """Some rows on their way to the model: its columns, in their order, and what keeps rows from being predicted."""

    columns: list[Values]
    errors: dict[int, PlatformError]
    degraded: Mapping[int, Sequence[str]]


class _Batch:
    """The answers of one batch as they gather."""

    def __init__(self, served: ServedVersion, rows: int, call: Call) -> None:
        self._served = served
        self._outputs = Outputs(rows)
        self._row_errors = RowErrors(call.correlation_id)
        self._errors = ResponseParts(call.response_limit)
        self._degraded: dict[int, Sequence[str]] = {}
        # The rows that have errors, in order.
        self.failed: list[int] = []

    async def answer(self, sent: Mapping[str, ColumnData], start: int, rows: int) -> None:
        """Answer the rows from `start`."""
        inputs = await complete(self._served, sent, rows)
        errors = inputs.errors
        columns = inputs.columns
        good = np.arange(start, start + rows)
        if errors:
            chosen = np.delete(np.arange(rows), sorted(errors))
            good, columns = good[chosen], [_chosen(column, chosen) for column in columns]
        failed = {row + start: error for row, error in errors.items()}
        if good.size:
            failed.update(await self._run(columns, good))
        if failed:
            await self._add_errors(failed)
        if inputs.degraded:
            degraded = {row + start: refs for row, refs in inputs.degraded.items()}
            self._degraded.update((row, refs) for row, refs in degraded.items() if row not in failed)

    async def _run(self, columns: Sequence[Values], rows: Array) -> dict[int, PlatformError]:
        """Run the model; gives the errors of the rows that it fails on."""
        failed: dict[int, PlatformError] = {}
        for part, outcome in await self._served.model.answer_parts(columns, len(rows)):
            if isinstance(outcome, PlatformError):
                failed.update(dict.fromkeys(rows[part].tolist(), outcome))
            else:
                self._outputs.add(rows[part], outcome)
        return failed

    async def _add_errors(self, failed: Mapping[int, PlatformError]) -> None:
        """Count the errors of rows, and add each as an entry of BatchPredictResponse's `errors`."""
        for row in sorted(failed):
            error = failed[row]
            self._served.model.metrics.error(error.reason_name)
            self.failed.append(row)
            place = _ROW + protobuf_encoding.length(row) if row else b""
            self._errors.append(protobuf_encoding.field(_ERROR, place + self._row_errors.encoded(error)))
            if self._row_errors.turn.over:
                await self._row_errors.turn.next()

    async def response(self, prediction_id: str, unused: Sequence[str]) -> bytes:
        """All of it, its fields in the order of their numbers."""
        parts = [response_prefix(self._served, prediction_id)]
        columns, infinite, turn = self._outputs.columns(), [], Turn()
        for name, values in columns.items():
            encoded_name = protobuf_encoding.field(_NAME, name.encode()) if name else b""
            encoded = await encode_column(values, turn, self.failed)
            parts.append(protobuf_encoding.field(_OUTPUT, encoded_name + protobuf_encoding.field(_VALUES, encoded)))
            if isinstance(values, list) and b"Infinity" in encoded and is_infinite(values):
                infinite.append(name)
        probabilities = self._outputs.probabilities()
        if probabilities is not None:
            parts.append(packed_doubles(_PROBABILITIES, probabilities))
        parts.append(self._errors.joined())
        if self._degraded:
            rows = [DegradedRow(row=row, degraded_features=refs) for row, refs in sorted(self._degraded.items())]
            parts.append(BatchPredictResponse(degraded_rows=rows).SerializeToString())
        integers = [name for name, values in columns.items() if _is_integer(values)]
        more = BatchPredictResponse(unused_inputs=unused, integer_outputs=integers, infinite_outputs=infinite)
        parts.append(more.SerializeToString())
        return b"".join(parts)


async def complete(served: ServedVersion, sent: Mapping[str, ColumnData], rows: int, *, first: bool = False) -> Inputs:
    """Turn columns as they were sent into the model's, with the features that were not sent.

    With `first`, the errors are those of the first row that has any, and of some others.
    """
    model = served.model
    places: dict[int, str] = {at: column.name for at, column in enumerate(model.columns) if column.name in sent}
    taken: dict[int, Values] = {}
    errors = await _taken(model, sent, places, taken, first=first)
    binding = None
    missing = [at for at in range(len(model.columns)) if at not in places]
    degraded: Mapping[int, Sequence[str]] = {}
    if missing:
        binding = await binding_of(model)
        aliases = _aliases(binding, missing, sent)
        late = await _taken(model, sent, aliases, taken, first=first)
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


async def _taken(
    model: LoadedModel, sent: Mapping[str, ColumnData], names: Mapping[int, str], taken: dict[int, Values], *, first: bool
) -> dict[int, PlatformError]:
    """Convert the columns that were sent; gives the errors of the rows with values that do not fit."""
    violations: dict[int, list[Violation]] = {}
    turn = Turn()
    for at, name in names.items():
        converted = await convert_in_turns(model.columns[at], sent[name], turn, first=first)
        taken[at] = converted.values
        for row, problem in converted.bad.items():
            found = violations.setdefault(row, [])
            if len(found) <= MOST_NAMED:
                found.append(Violation(f"inputs.{name}", problem))
        if turn.over:
            await turn.next()
    errors: dict[int, PlatformError] = {}
    known: dict[tuple[Violation, ...], PlatformError] = {}  # the same is often wrong with many rows
    for row, found in violations.items():
        key = tuple(found)
        if key not in known:
            known[key] = unsuitable(found)
        errors[row] = known[key]
        if turn.over:
            await turn.next()
    return errors


async def binding_of(model: LoadedModel) -> Binding | None:
    """Which of a model's columns the feature store supplies; None if it supplies none, or does not answer."""
    if model.enrichment.binding is None:
        await model.enrichment.prepare()
    return model.enrichment.binding


def _aliases(binding: Binding | None, missing: Sequence[int], sent: Mapping[str, ColumnData]) -> dict[int, str]:
    """Which of the missing columns were sent under another name."""
    if binding is None:
        return {}
    found = {at: next((alias for alias in binding.aliases.get(at, ()) if alias in sent), "") for at in missing}
    return {at: name for at, name in found.items() if name}


def _is_integer(values: Values) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "iu"
    return is_integer(next((value for value in values if value is not None), None))


def _chosen(values: Values, rows: Array) -> Values:
    return values[rows] if isinstance(values, np.ndarray) else [values[at] for at in rows.tolist()]
