"""One request's inputs on their way to a model."""

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

# So many sets of columns, of those that callers leave out, are remembered.
MOST_SETS = 1000

Fields = Mapping[str, struct_pb2.Value]


@dataclass(slots=True)
class Row:
    """One row for a model.

    `values` holds one value per column, in the signature's order; None stands for a null and, before enrichment, for a column
    that the caller did not send. `missing` lists the columns not sent, by position; `others` names inputs that are no columns;
    `cells` holds what the feature store said of the columns not sent. `policy` says what to do about features that are missing or
    stale, and `degraded` names those that the row went on without, as "view:feature". `unused` names inputs that nothing uses.
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
    """What takes a model's columns out of the inputs that a caller sent, for a deployment with a policy.

    It raises INPUT_INVALID, with a violation for every value that is not of its column's type.
    """
    places = {column.name: (at, _quick(column)) for at, column in enumerate(columns)}
    width = len(columns)
    lacking: dict[int, list[int]] = {}

    def missing(sent: int) -> list[int]:
        # Callers send the same few sets of columns again and again. `sent` has a bit for each.
        if len(lacking) >= MOST_SETS:
            lacking.clear()
        found = lacking[sent] = [at for at in range(width) if not sent >> at & 1]
        return found

    def decode(fields: Fields, policy: Policy) -> Row:
        values: list[object] = [None] * width
        sent, others = 0, []
        violations: list[Violation] = []
        # Callers send less than the model takes, as features supply the rest: what was sent is walked, not what may have been.
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


# A field of a Value that is not the one it holds reads as 0, "" or False. So whatever reads as something else is what it holds,
# and the rest is left to the thorough way.


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
    """What takes the usual values of a column."""
    if column.refusal is None:
        return _QUICK.get(column.convert, _thoroughly)
    largest = min(column.refusal.largest, LARGEST.get(column.type, math.inf))
    return partial(_up_to, largest) if column.type in ("double", "float") else _thoroughly


def taken(column: Column, value: struct_pb2.Value) -> object:
    """The value for a column that a caller sent. Raises CoercionError."""
    return column.taken(plain(value))


COLUMN_REMEDY = "Send values of the types in the model's signature (ModelService.GetModelVersion tells it)."


def unsuitable(violations: Sequence[Violation], *, remedy: str = COLUMN_REMEDY) -> PlatformError:
    """The error for inputs that are not of their types: those of the model's columns, if the remedy says no other.

    It names MOST_NAMED of them: each row of a batch may have such an error.
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
