"""Many rows for a model, cut into calls, and what came of each."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

from ml_platform.errors import MLPlatformError, invalid
from ml_platform.frames import as_stream, columns_of, is_frame
from ml_platform.resources.columns import from_columns, to_column
from ml_platform.resources.features import read_values
from ml_platform.resources.predictions import Prediction, read_outputs
from ml_platform.status import from_status
from ml_platform.v1 import predictions_pb2
from ml_platform.v1.predictions_pb2 import BatchPredictRequest, BatchPredictResponse, RowResult
from ml_platform.values import build, from_output, infinities, to_struct

if TYPE_CHECKING:
    from pandas import DataFrame

# A DataFrame is told by its methods: the client never imports pandas.
Rows = Union[Iterable[Mapping[str, Any]], "DataFrame"]
Outcome = Prediction | MLPlatformError

# Rows of one call. The platform takes messages of 16 MiB, and the replies are larger than the requests.
ROWS = 1000
FRAME_ROWS = 10_000
REQUEST_BYTES = 4 * 1024 * 1024


def to_name(model_name: str) -> str:
    """The name of a model, which is text."""
    return build(BatchPredictRequest, model_name=model_name).model_name


def checked_mode(on_error: str) -> str:
    """What to do about rows with errors, one of two words."""
    if on_error not in ("raise", "return"):
        raise invalid("on_error", f"{on_error!r} is not one of 'raise', 'return'")
    return on_error


def parts(rows: Rows, *, include_features: bool) -> Iterator[BatchPredictRequest]:
    """The requests that hold the rows, still without the model's name."""
    if is_frame(rows):
        if include_features:
            raise invalid("include_features", "a DataFrame is answered without them; send its rows as mappings")
        return _of_frame(rows)
    return _of_rows(as_stream(rows, "rows"), include_features=include_features)


def _of_rows(rows: Iterable[Mapping[str, Any]], *, include_features: bool) -> Iterator[BatchPredictRequest]:
    request, size = BatchPredictRequest(include_features=include_features), 0
    for at, row in enumerate(rows):
        struct = to_struct(row, f"rows[{at}]")
        more = struct.ByteSize()
        if request.rows and (len(request.rows) >= ROWS or size + more > REQUEST_BYTES):
            yield request
            request, size = BatchPredictRequest(include_features=include_features), 0
        request.rows.append(struct)
        size += more
    if request.rows:
        yield request


def _of_frame(frame: Any) -> Iterator[BatchPredictRequest]:  # noqa: ANN401  # a DataFrame
    columns = columns_of(frame, "rows").items()
    count = len(frame)
    if count and not columns:
        raise invalid("rows", "the DataFrame has no columns")
    start, step = 0, FRAME_ROWS
    while start < count:
        request = BatchPredictRequest(columns=[to_column(name, values[start : start + step]) for name, values in columns])
        if request.ByteSize() > REQUEST_BYTES and step > 1:
            step = max(1, step // 2)
            continue
        yield request
        start += step


def read_batch(request: BatchPredictRequest, response: BatchPredictResponse, *, first: int, raising: bool) -> Iterable[Outcome]:
    """What came of each row of a request.

    Args:
        request: what was asked.
        response: what was answered.
        first: the position of its first row among all rows.
        raising: whether to raise the first error.
    """
    outcomes = _read_columns(response) if request.columns else _read_rows(response)
    if raising:
        for at, outcome in enumerate(outcomes):
            if isinstance(outcome, MLPlatformError):
                outcome.message = f"Row {first + at}: {outcome.message}"
                raise outcome
    return outcomes


def _read_rows(response: BatchPredictResponse) -> Sequence[Outcome]:
    return [_read_row(response, at, result) for at, result in enumerate(response.results)]


def _read_row(response: BatchPredictResponse, at: int, result: RowResult) -> Outcome:
    if result.HasField("error"):
        return from_status(result.error)
    said = result.prediction
    return Prediction(
        prediction=from_output(said.prediction, integer=said.integer_prediction, numbers=infinities(said.infinite_prediction)),
        probability=said.probability if said.HasField("probability") else None,
        outputs=read_outputs(said),
        features=read_values(said.features),
        degraded_features=tuple(said.degraded_features),
        unused_inputs=tuple(said.unused_inputs),
        **_told(response, at),
    )


def _read_columns(response: BatchPredictResponse) -> Sequence[Outcome]:
    errors = {error.row: from_status(error.error) for error in response.errors}
    degraded = {row.row: tuple(row.degraded_features) for row in response.degraded_rows}
    names, unused = [output.name for output in response.outputs], tuple(response.unused_inputs)
    rows = list(from_columns(response)) if names else [()] * len(errors)
    probabilities: Iterable[float] = response.probabilities or [math.nan] * len(rows)
    return [
        errors[at]
        if at in errors
        else Prediction(
            prediction=values[0],
            probability=None if math.isnan(probability) else probability,
            outputs=dict(zip(names, values, strict=True)),
            features=(),
            degraded_features=degraded.get(at, ()),
            unused_inputs=unused,
            **_told(response, at),
        )
        for at, (values, probability) in enumerate(zip(rows, probabilities, strict=True))
    ]


def _told(response: predictions_pb2.BatchPredictResponse, at: int) -> dict[str, Any]:
    return {
        "model_name": response.model_name,
        "model_version": response.model_version,
        "deployment_id": response.deployment_id,
        "prediction_id": f"{response.prediction_id}-{at}",
    }
