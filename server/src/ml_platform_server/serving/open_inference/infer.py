"""Answers one inference of the Open Inference Protocol: no Python object is made for a single row."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from ml_platform_server.errors import PlatformError, Violation, invalid
from ml_platform_server.open_inference import Message, ModelInferResponse
from ml_platform_server.serving.inputs.columns import Array, ColumnData, Values
from ml_platform_server.serving.open_inference.datatypes import BYTES, DTYPES, of_type
from ml_platform_server.serving.open_inference.parameters import params_of
from ml_platform_server.serving.open_inference.single import answer_one
from ml_platform_server.serving.open_inference.tensors import OpenInferenceInputs, decode_tensors
from ml_platform_server.serving.outputs.columns import ColumnPredictions, Outputs
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.serving.rpc.batch_columns import CHUNK_ROWS, binding_of, complete
from ml_platform_server.serving.rpc.replies import new_prediction_id
from ml_platform_server.similar_names import did_you_mean
from ml_platform_server.turns import Turn

MATRIX = "input"
# Names in an error, at most.
MOST_TOLD = 100
# Elements of a lone row that are looked at one by one.
FEW_ELEMENTS = 1024
_NO_NULLS: Array = np.empty(0, np.int64)
_DIMENSIONS = 2


async def infer(served: ServedVersion, request: Message, log_fields: MutableMapping[str, object]) -> Message:
    """Answer a request.

    Args:
        served: the version that answers.
        request: a ModelInferRequest.
        log_fields: receives what the access log tells of the call.

    Raises:
        PlatformError: as the contract says for ModelInfer.
    """
    params = params_of(request, [spec.name for spec in served.model.version.signature.params] if request.parameters else ())
    served = served.with_params(params)
    tensors = await decode_tensors(request)
    rows = _rows(tensors)
    sent = await _columns(served, tensors)
    answers = await _answers(served, sent, rows)
    response = _response(served, request)
    tensors_out = OpenInferenceInputs(response, raw=bool(request.raw_input_contents))
    for name in _wanted(request, answers):
        tensors_out.add(name, answers[name])
    log_fields["model"], log_fields["version"] = request.model_name, served.model.version.version
    log_fields["prediction_id"] = response.parameters["prediction_id"].string_param
    log_fields["rows"] = rows
    return response


def _rows(tensors: Mapping[str, Array]) -> int:
    rows = -1
    for at, array in enumerate(tensors.values()):
        rows = len(array) if rows < 0 else rows
        if len(array) != rows:
            raise invalid(f"inputs[{at}].shape", f"says {len(array)} rows, and the first input has {rows}")
    if rows < 0:
        raise invalid("inputs", "must not be empty")
    return rows


async def _columns(served: ServedVersion, tensors: Mapping[str, Array]) -> dict[str, ColumnData]:
    model = served.model
    names = [column.name for column in model.columns]
    extras = await _unknown(served, tensors)
    if extras:
        matrix = _matrix(served, tensors)
        if matrix is None:
            takes = ", ".join(names[:MOST_TOLD])
            close = did_you_mean([name for name in names if name not in tensors], extras)
            raise invalid("inputs", f"the model does not know {', '.join(extras[:MOST_TOLD])}; it takes {takes}.{close}")
        return {name: ColumnData(matrix[:, at], _NO_NULLS) for at, name in enumerate(names)}
    shapes = {column.name: column.shape for column in model.columns}
    sent, turn = {}, Turn()
    for name, array in tensors.items():
        sent[name] = _column(name, array, shapes.get(name, ()))
        if turn.over:
            await turn.next()
    return sent


async def _unknown(served: ServedVersion, tensors: Mapping[str, Array]) -> list[str]:
    """The inputs that are neither columns nor join keys, nor columns by another name."""
    known = {column.name for column in served.model.columns}
    extras = [name for name in tensors if name not in known]
    if not extras:
        return []
    binding = await binding_of(served.model)
    if not served.model.enrichment.resolved:
        return []  # Any of them may be a join key. If one is needed, the feature store's own error says that it is down.
    names = binding.names() if binding is not None else ()
    return [name for name in extras if name not in names]


def _matrix(served: ServedVersion, tensors: Mapping[str, Array]) -> Array | None:
    """The one matrix that holds all columns side by side, if that is what was sent."""
    name, array = next(iter(tensors.items()))
    columns = served.model.columns
    if len(tensors) > 1 or name not in (MATRIX, served.model.runtime.matrix) or array.dtype.kind not in "fiub":
        return None
    if any(column.shape for column in columns):
        return None
    if array.ndim != _DIMENSIONS or array.shape[1] != len(columns):
        raise invalid("inputs[0].shape", f"must be [rows, {len(columns)}], the model's columns side by side")
    return array


def _column(name: str, array: Array, shape: tuple[int, ...]) -> ColumnData:
    if array.ndim == _DIMENSIONS and array.shape[1] == 1 and len(shape) == 0:
        array = array.reshape(-1)
    if array.dtype.kind != "O":
        return ColumnData(array, _NO_NULLS)
    try:
        return ColumnData(_decoded(array.tolist()), _NO_NULLS)
    except UnicodeDecodeError:
        raise invalid("inputs", f"{name} must hold text in UTF-8") from None


def _decoded(things: list[Any]) -> list[Any]:
    if set(map(type, things)) <= {str}:
        return things
    return [thing.decode() if type(thing) is bytes else _decoded(thing) for thing in things]


async def _answers(served: ServedVersion, sent: Mapping[str, ColumnData], rows: int) -> Mapping[str, Values]:
    """Every output by name. All rows at once, unless there is much to be looked up for them."""
    if not rows:
        return _nothing(served)
    if rows == 1 and sum(column.values.size for column in sent.values() if isinstance(column.values, np.ndarray)) <= FEW_ELEMENTS:
        try:
            return await answer_one(served, sent)
        except PlatformError as error:
            raise _of_row(0, error) from None
    if rows <= CHUNK_ROWS or all(column.name in sent for column in served.model.columns):
        return (await _answered(served, sent, 0, rows)).outputs
    outputs = Outputs(rows)
    for start in range(0, rows, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, rows)
        part = {name: column.part(start, stop) for name, column in sent.items()}
        outputs.add(np.arange(start, stop), await _answered(served, part, start, stop - start))
        await asyncio.sleep(0)  # the other calls of this process have waited for this slice
    return outputs.columns()


def _nothing(served: ServedVersion) -> dict[str, Values]:
    """Every output by name, of no rows, in the types that the model's metadata tells."""
    found: dict[str, Values] = {}
    for name, type_, shape in served.model.runtime.outputs:
        datatype = of_type(type_)
        tail = [max(size, 0) for size in shape[1:]]
        found[name] = [] if datatype == BYTES else np.empty((0, *tail), DTYPES[datatype])
    return found


async def _answered(served: ServedVersion, sent: Mapping[str, ColumnData], start: int, rows: int) -> ColumnPredictions:
    """The answers for the rows from `start`."""
    inputs = await complete(served, sent, rows, first=True)
    if inputs.errors:
        row = min(inputs.errors)
        served.model.metrics.error(inputs.errors[row].reason_name)
        raise _of_row(start + row, inputs.errors[row])
    return await served.model.answer_columns(inputs.columns, rows)


def _of_row(row: int, error: PlatformError) -> PlatformError:
    """The same error, with the row that it is about."""
    return PlatformError(
        error.reason,
        f"Row {row}: {error.message}",
        remedy=error.remedy,
        violations=[Violation(f"{each.field}[{row}]", each.description) for each in error.violations],
        resource=error.resource,
        retry_after=error.retry_after,
        metadata={**error.metadata, "row": str(row)},
    )


def _wanted(request: Message, answers: Mapping[str, Values]) -> list[str]:
    wanted: dict[str, None] = {}
    for at, output in enumerate(request.outputs):
        if output.name not in answers:
            raise invalid(f"outputs[{at}].name", f"the model has no such output; it gives {', '.join(answers)}")
        if output.name in wanted:
            raise invalid(f"outputs[{at}].name", "is asked for twice")
        wanted[output.name] = None
    return list(wanted or answers)


def _response(served: ServedVersion, request: Message) -> Message:
    version = served.model.version
    response = ModelInferResponse(model_name=version.model_name, model_version=str(version.version), id=request.id)
    response.parameters["deployment_id"].string_param = served.deployment_id
    response.parameters["prediction_id"].string_param = new_prediction_id()
    return response
