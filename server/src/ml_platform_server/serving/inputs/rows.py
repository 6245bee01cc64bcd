"""Decodes the inputs of one request into a row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from google.protobuf import struct_pb2

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.feast.online import Cell
from ml_platform_server.errors import PlatformError, Violation, sentence
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY, Policy
from ml_platform_server.serving.inputs.signature import (
    CONVERSIONS,
    LARGEST,
    LARGEST_FLOAT,
    MOST_NAMED,
    CoercionError,
    Column,
    Convert,
)
from ml_platform_server.struct_values import SAFE_INTEGER_LIMIT, plain

# Maximum number of cached lists of missing columns.
MOST_SETS = 1000

Fields = Mapping[str, struct_pb2.Value]


@dataclass(slots=True)
class Row:
    """One row for a model.

    Attributes:
        fields: the inputs of the request.
        values: one value per column, in the signature's order; None for null and, before enrichment, for a missing column.
        missing: positions of the columns that were not sent, ascending. Rows share these lists, so they must not be changed.
        others: names of the inputs that are no columns.
        cells: per position of a missing column, the cell that the feature store returned, or the default.
        policy: the policy for missing and stale features.
        degraded: the features that the row is predicted without or with a stale value, as "view:feature".
        unused: names of the inputs that are neither columns nor join keys.
    """

    fields: Fields
    values: list[object]
    missing: list[int]
    others: Sequence[str] = ()
    cells: dict[int, Cell] = field(default_factory=dict)
    policy: Policy = DEFAULT_POLICY
    degraded: Sequence[str] = ()
    unused: Sequence[str] = ()


Decode = Callable[[Fields, Policy], Row]


def decoder(columns: Sequence[Column]) -> Decode:
    """Make the decoder of a model's inputs: it takes the fields of a request and a deployment's policy and returns a Row.

    The decoder raises INPUT_INVALID, with a violation for every value that is not of its column's type.
    """
    places = {column.name: (at, _quick(column)) for at, column in enumerate(columns)}
    width = len(columns)
    lacking: dict[int, list[int]] = {}

    def missing(sent: int) -> list[int]:
        # Requests repeat the same few sets of columns. `sent` is a bit set of column positions.
        if len(lacking) >= MOST_SETS:
            lacking.clear()
        found = lacking[sent] = [at for at in range(width) if not sent >> at & 1]
        return found

    def decode(fields: Fields, policy: Policy) -> Row:
        values: list[object] = [None] * width
        sent, others = 0, []
        violations: list[Violation] = []
        # Requests have fewer inputs than the model has columns, as features supply the rest: iterating over the inputs is faster.
        for name in fields:
            place = places.get(name)
            if place is None:
                others.append(name)
                continue
            at, quick = place
            sent |= 1 << at
            found = quick(value := fields[name])
            if found is None:
                try:
                    found = taken(columns[at], value)
                except CoercionError as error:
                    violations.append(Violation(f"inputs.{name}", str(error)))
            values[at] = found
        if violations:
            raise unsuitable(sorted(violations, key=lambda violation: places[violation.field.removeprefix("inputs.")][0]))
        lacks = lacking.get(sent)
        return Row(fields, values, missing(sent) if lacks is None else lacks, others, {}, policy)

    return decode


# Fast paths. A Value's field that is not set reads as 0, "" or False. So any other reading is the Value's content; these defaults
# are left to `taken`.


def _number(value: struct_pb2.Value) -> object | None:
    return value.number_value or None


def _single(value: struct_pb2.Value) -> object | None:
    number = value.number_value
    return number if number and -LARGEST_FLOAT <= number <= LARGEST_FLOAT else None


def _up_to(largest: float, value: struct_pb2.Value) -> object | None:
    number = value.number_value
    return number if number and -largest <= number <= largest else None


def _whole(value: struct_pb2.Value) -> object | None:
    number = value.number_value
    return int(number) if number and -SAFE_INTEGER_LIMIT < number < SAFE_INTEGER_LIMIT and number.is_integer() else None


def _text(value: struct_pb2.Value) -> object | None:
    return value.string_value or None


def _truth(value: struct_pb2.Value) -> object | None:
    return value.bool_value or None


def _thoroughly(value: struct_pb2.Value) -> object | None:  # noqa: ARG001  # as the others
    return None


_QUICK: Mapping[Convert, Callable[[struct_pb2.Value], object | None]] = {
    CONVERSIONS["double"]: _number,
    CONVERSIONS["float"]: _single,
    CONVERSIONS["long"]: _whole,
    CONVERSIONS["string"]: _text,
    CONVERSIONS["boolean"]: _truth,
}


def _quick(column: Column) -> Callable[[struct_pb2.Value], object | None]:
    """The fast path for a column: returns a valid value, or None to fall back to `taken`."""
    if column.refusal is None:
        return _QUICK.get(column.convert, _thoroughly)
    largest = min(column.refusal.largest, LARGEST.get(column.type, math.inf))
    return partial(_up_to, largest) if column.type in ("double", "float") else _thoroughly


def taken(column: Column, value: struct_pb2.Value) -> object:
    """Coerce an input to the type of its column. Raises CoercionError."""
    return column.taken(plain(value))


COLUMN_REMEDY = "Send values of the types in the model's signature (ModelService.GetModelVersion tells it)."


def unsuitable(violations: Sequence[Violation], *, remedy: str = COLUMN_REMEDY) -> PlatformError:
    """The INPUT_INVALID error for values of other types. The default remedy is the one for column values.

    It lists the first MOST_NAMED violations: each row of a batch may have such an error.
    """
    more = "; and more" if len(violations) > MOST_NAMED else ""
    violations = violations[:MOST_NAMED]
    summary = "; ".join(f"{violation.field}: {violation.description}" for violation in violations) + more
    return PlatformError(
        errors_pb2.ERROR_REASON_INPUT_INVALID,
        sentence(f"The inputs do not fit the model: {summary}"),
        remedy=remedy,
        violations=violations,
    )
