"""What a version takes, as a converter and a sample need to know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Row = list[Any]
"""One value a field; a list of numbers for a field with a width."""

NUMBERS = ("double", "float", "long", "integer", "boolean")
DEFAULT_INPUT_NAME = "inputs"
"""What the platform's server calls the only input of a signature that names none."""

_KINDS = {"float64": "double", "float32": "float", "int64": "long", "int32": "integer", "bool": "boolean"}
_SHAPE_OF_TABLES = 2


class NotConvertible(Exception):  # noqa: N818  # it is an outcome, not a fault of this program
    """There will be no graph. The text says why."""


@dataclass(frozen=True)
class Field:
    """One input: a column, or a tensor that holds `width` numbers a row."""

    name: str
    kind: str
    required: bool = True
    width: int = 0

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.kind in NUMBERS

    @property
    def fractional(self) -> bool:
        """Whether its numbers have fractions."""
        return self.kind in ("double", "float")


def fields_of(schema: Any) -> list[Field]:  # noqa: ANN401  # mlflow.types.Schema, or None
    """The inputs of a signature.

    Raises:
        NotConvertible: it has inputs that no graph takes.
    """
    if schema is None or not schema.inputs:
        raise NotConvertible("Its signature does not say what it takes.")
    if schema.is_tensor_spec():
        return [_tensor(schema.inputs)]
    if not schema.has_input_names():
        raise NotConvertible("Its signature does not name its columns.")
    return [_column(spec) for spec in schema.inputs]


def _column(spec: Any) -> Field:  # noqa: ANN401  # mlflow.types.ColSpec
    kind = str(getattr(spec.type, "name", spec.type))
    if kind not in (*NUMBERS, "string"):
        raise NotConvertible(f"Its column {spec.name} is of the type {kind}, which no converter takes.")
    return Field(str(spec.name), kind, required=bool(spec.required))


def _tensor(specs: Sequence[Any]) -> Field:
    if len(specs) > 1 or len(specs[0].shape) != _SHAPE_OF_TABLES or specs[0].shape[1] < 1:
        raise NotConvertible("It takes tensors, and only one with a row of numbers for each row can be converted.")
    kind = _KINDS.get(str(specs[0].type))
    if kind is None:
        raise NotConvertible(f"It takes a tensor of {specs[0].type}, which no converter takes.")
    return Field(specs[0].name or DEFAULT_INPUT_NAME, kind, width=int(specs[0].shape[1]))
