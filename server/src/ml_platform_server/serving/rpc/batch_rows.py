"""Answers many rows that came in one call, each with its own prediction or its own error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from google.protobuf import struct_pb2

from ml_platform.v1.predictions_pb2 import BatchPredictRequest, RowPrediction
from ml_platform_server import protobuf_encoding
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, invalid
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.outputs import encode
from ml_platform_server.serving.outputs.prediction import Prediction
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.serving.rpc.batch_columns import predict_columns
from ml_platform_server.serving.rpc.batch_replies import ResponseParts, RowErrors, response_prefix
from ml_platform_server.serving.rpc.in_flight import MOST_ROWS, InFlight
from ml_platform_server.serving.rpc.replies import features_of, new_prediction_id
from ml_platform_server.struct_values import plain_fields

# The tag of BatchPredictResponse's field 5.
_RESULT = b"\x2a"
# Rows that are answered together. More would hold up the other calls of this process; fewer would cost more reads and runs.
CHUNK_ROWS = 256


Find = Callable[[str, str], Awaitable[ServedVersion]]


class Batches:
    """Answers batches.

    Args:
        find: gives the version that answers for a model in an environment.
        in_flight: what is worked on at once; without a limit by default.
    """

    def __init__(self, *, find: Find, in_flight: InFlight | None = None) -> None:
        self._find = find
        self._in_flight = in_flight or InFlight()

    async def predict(self, request: BatchPredictRequest, call: Call) -> bytes:
        """Answer a valid request, with a BatchPredictResponse on the wire.

        Raises:
            PlatformError: as the contract says for PredictionService.BatchPredict.
        """
        _check(request)
        rows = len(request.rows) or _column_length(request)
        if rows > MOST_ROWS:
            raise invalid("columns", f"have more than {MOST_ROWS:,} rows; send several requests")
        with self._in_flight.of(rows, request.ByteSize()):
            served = await self._find(request.model_name, request.environment)
            if request.HasField("params"):
                served = served.with_params(plain_fields(request.params))
            call.log_fields.update(model=served.model.name, version=served.model.number)
            if request.rows:
                return await predict_rows(served, request, call)
            return await predict_columns(served, request, call)


def _check(request: BatchPredictRequest) -> None:
    if bool(request.rows) == bool(request.columns):
        raise invalid("rows", "either rows or columns must be sent, and not both")
    if request.columns and request.include_features:
        raise invalid("include_features", "is for rows only; columns are answered without them")


def _column_length(request: BatchPredictRequest) -> int:
    """How many rows the columns have, as their first one says."""
    values = request.columns[0].values
    kind = values.WhichOneof("kind")
    if kind == "vectors":
        numbers = max(len(values.vectors.values), len(values.vectors.integers))
        return numbers // max(1, values.vectors.length)
    return len(getattr(getattr(values, kind), "values", ())) if kind else 0


async def predict_rows(served: ServedVersion, request: BatchPredictRequest, call: Call) -> bytes:
    """Answer the rows of a batch, each with its prediction or its error: a BatchPredictResponse on the wire.

    Raises:
        PlatformError: REPLY_TOO_LARGE, and what kept the model itself from answering.
    """
    prediction_id = new_prediction_id()
    parts = ResponseParts(call.response_limit)
    parts.append(response_prefix(served, prediction_id))
    errors = RowErrors(call.correlation_id)
    failed = 0
    for start in range(0, len(request.rows), CHUNK_ROWS):
        rows, outcomes = await _outcomes(served, request.rows[start : start + CHUNK_ROWS], errors)
        for row, outcome in zip(rows, outcomes, strict=True):
            if row is None or isinstance(outcome, PlatformError):
                failed += 1
                parts.append(_failure(served, outcome, errors))
                if errors.turn.over:
                    await errors.turn.next()
            else:
                parts.append(_prediction(served, row, outcome, include_features=request.include_features))
        await errors.turn.next()  # the other calls of this process have waited for this slice
    call.log_fields.update(prediction_id=prediction_id, rows=len(request.rows), row_errors=failed)
    return parts.joined()


async def _outcomes(
    served: ServedVersion, part: Sequence[struct_pb2.Struct], row_errors: RowErrors
) -> tuple[list[Row | None], list[Prediction | PlatformError]]:
    """The rows as they were decoded and completed, None for one that could not be decoded, and what became of each."""
    rows: list[Row | None] = []
    errors: dict[int, PlatformError] = {}
    for at, inputs in enumerate(part):
        try:
            rows.append(served.decode(inputs.fields))
        except PlatformError as error:
            rows.append(None)
            errors[at] = error
            if row_errors.turn.over:
                await row_errors.turn.next()
    found = iter(await served.model.answer([row for row in rows if row is not None]))
    outcomes = [errors[at] if row is None else next(found) for at, row in enumerate(rows)]
    return rows, outcomes


def _prediction(served: ServedVersion, row: Row, answer: Prediction, *, include_features: bool) -> bytes:
    """A row's prediction as an entry of BatchPredictResponse's `results`, its fields in the order of their numbers."""
    encoded_row = encode.encoded(answer, encode.ROW)
    unused = served.model.enrichment.unused(row.others) if row.others else ()
    if include_features or row.degraded or unused:
        features = features_of(served, row) if include_features else ()
        # Messages on the wire may be put one behind the other: the fields of both count.
        more = RowPrediction(features=features, degraded_features=row.degraded, unused_inputs=unused)
        encoded_row += more.SerializeToString()
    return protobuf_encoding.field(_RESULT, protobuf_encoding.field(b"\x0a", encoded_row))


def _failure(served: ServedVersion, error: Prediction | PlatformError, errors: RowErrors) -> bytes:
    assert isinstance(error, PlatformError)  # noqa: S101  # a row that could not be decoded has an error
    served.model.metrics.error(error.reason_name)
    return protobuf_encoding.field(_RESULT, errors.encoded(error))
