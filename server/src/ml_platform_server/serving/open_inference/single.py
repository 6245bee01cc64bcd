"""Answers an inference of one row in a batch with others that come at the same time, as PredictionService.Predict does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import struct_pb2

from ml_platform_server.call import current_deadline
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.inputs.columns import ColumnData, Values, as_values
from ml_platform_server.serving.inputs.rows import Row, unsuitable
from ml_platform_server.serving.inputs.signature import CoercionError
from ml_platform_server.serving.open_inference.datatypes import BYTES, DTYPES, of_type
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.struct_values import to_value


async def answer_one(served: ServedVersion, sent: Mapping[str, ColumnData]) -> dict[str, Values]:
    """Every output by name, of one value, in the types that the model's metadata tells.

    Raises:
        PlatformError: what is wrong with the row or with the model; OVERLOADED, DEADLINE_EXCEEDED.
    """
    try:
        row = _row(served, {name: column.plain()[0] for name, column in sent.items()})
    except PlatformError as error:
        served.model.metrics.error(error.reason_name)
        raise
    answer = served.model.unwrap(await served.model.submit(row, current_deadline()))
    types = {name: of_type(type_) for name, type_, _ in served.model.runtime.outputs}
    return {name: _column(value, types.get(name)) for name, value in answer.outputs.items()}


def _row(served: ServedVersion, sent: Mapping[str, object]) -> Row:
    columns = served.model.columns
    values: list[object] = [None] * len(columns)
    missing: list[int] = []
    violations: list[Violation] = []
    for at, column in enumerate(columns):
        if column.name not in sent:
            missing.append(at)
            continue
        try:
            values[at] = column.taken(sent[column.name])
        except CoercionError as error:
            violations.append(Violation(f"inputs.{column.name}", str(error)))
    if violations:
        raise unsuitable(violations)
    # Join keys, and columns under other names. A column is there by its name only, which is all that is asked of it.
    fields = {name: _value(thing) for name, thing in sent.items()} if missing else {}
    return Row(fields, values, missing, policy=served.policy)


def _value(thing: object) -> struct_pb2.Value:
    return struct_pb2.Value(number_value=thing) if isinstance(thing, float) else to_value(thing)


def _column(value: Any, datatype: str | None) -> Values:  # noqa: ANN401  # whatever the model gives
    if datatype is None:
        return as_values([value])
    if datatype == BYTES:
        return [value]
    return np.array([_number(value)], DTYPES[datatype])


def _number(value: Any) -> Any:  # noqa: ANN401  # as above
    """The value with NaN in place of None, which stands for it among plain values."""
    if isinstance(value, list):
        return [_number(each) for each in value]
    return math.nan if value is None else value
