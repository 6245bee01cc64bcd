"""One request's inputs on their way to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf import struct_pb2

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.feast.online import Cell
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.serving.columns import Column, Unsuitable
from ml_platform_server.values import plain

Fields = Mapping[str, struct_pb2.Value]


@dataclass(slots=True)
class Row:
    """One row for a model.

    `values` holds one value per column, in the signature's order; None stands for a null and, before enrichment, for a column
    that the caller did not send. `missing` lists the columns not sent, by position; `cells` holds what the feature store said of
    them.
    """

    fields: Fields
    values: list[object]
    missing: list[int]
    cells: dict[int, Cell] = field(default_factory=dict)


def decode(fields: Fields, columns: Sequence[Column]) -> Row:
    """Take a model's columns out of the inputs that a caller sent.

    Raises:
        PlatformError: INPUT_INVALID, with a violation for every value that is not of its column's type.
    """
    row = Row(fields, [], [])
    violations: list[Violation] = []
    for at, column in enumerate(columns):
        if column.name not in fields:
            row.values.append(None)
            row.missing.append(at)
            continue
        try:
            row.values.append(taken(column, fields[column.name]))
        except Unsuitable as error:
            violations.append(Violation(f"inputs.{column.name}", str(error)))
    if violations:
        raise unsuitable(violations)
    return row


def taken(column: Column, value: struct_pb2.Value) -> object:
    """The value for a column that a caller sent. Raises Unsuitable."""
    thing = plain(value)
    if thing is not None:
        return column.convert(thing)
    if column.required:
        raise Unsuitable("must not be null")
    return None


COLUMN_REMEDY = "Send values of the types in the model's signature (ModelService.GetModelVersion tells it)."


def unsuitable(violations: Sequence[Violation], *, remedy: str = COLUMN_REMEDY) -> PlatformError:
    """The error for inputs that are not of their types: those of the model's columns, if the remedy says no other."""
    told = "; ".join(f"{violation.field}: {violation.description}" for violation in violations)
    return PlatformError(
        errors_pb2.ERROR_REASON_INPUT_INVALID,
        f"The inputs do not fit the model: {told}.",
        remedy=remedy,
        violations=violations,
    )
