"""The columns that a model takes, from its signature, and how a plain value becomes one of theirs."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ml_platform.v1 import models_pb2
from ml_platform_server.values import EXACT

Convert = Callable[[object], object]

LARGEST_FLOAT = 3.4028234663852886e38
UNNAMED = "inputs"
# At most as many digits as 64 bits have, so that no text makes work.
_DIGITS = re.compile(r"-?[0-9]{1,19}")


class Unsuitable(ValueError):  # noqa: N818  # it is caught and turned into a violation, never seen
    """A value that is not of its column's type. The text says what was expected."""


@dataclass(frozen=True, slots=True)
class Column:
    """One input of a model.

    `convert` takes a plain value (from a request or from the feature store) and gives the value that runtimes take, or raises
    Unsuitable. It never sees None.
    """

    name: str
    type: str
    required: bool
    convert: Convert
    shape: tuple[int, ...] = ()


def columns_of(signature: models_pb2.ModelSignature) -> tuple[Column, ...]:
    """The columns of a signature, in its order.

    An input without a name answers to "inputs"; if there are several, to "input_0", "input_1" and so on.
    """
    specs = signature.inputs
    return tuple(_column(spec, UNNAMED if len(specs) == 1 else f"input_{at}") for at, spec in enumerate(specs))


def _column(spec: models_pb2.ColumnSpec, fallback: str) -> Column:
    name = spec.name or fallback
    if spec.type.startswith("tensor("):
        # The first dimension counts rows; a call brings one row.
        shape = tuple(spec.shape[1:])
        element = _element(spec.type.removeprefix("tensor(").removesuffix(")"))
        return Column(name=name, type=spec.type, required=spec.required, convert=_tensor(element, shape), shape=shape)
    return Column(name=name, type=spec.type, required=spec.required, convert=CONVERSIONS.get(spec.type, _anything))


def got(value: object) -> str:
    """What kind of thing a value is, in words. The value itself may be private and is not told."""
    words = {
        type(None): "null",
        bool: "true or false",
        str: "text",
        list: "a list",
        dict: "an object",
        float: "a number",
        int: "a number",
    }
    return words.get(type(value), "something else")


def number(value: object) -> float:
    """A double."""
    if type(value) is float:
        return value
    if type(value) is int:
        return float(value)
    raise Unsuitable(f"expected a number, got {got(value)}")


def _single(value: object) -> float:
    single = number(value)
    if math.isfinite(single) and abs(single) > LARGEST_FLOAT:
        raise Unsuitable("expected a number within the range of a 32-bit float")
    return single


def whole(bits: int) -> Callable[[object], int]:
    """The conversion to whole numbers of so many bits."""
    limit = 2 ** (bits - 1)

    def convert(value: object) -> int:
        if type(value) is float:
            if not value.is_integer():
                raise Unsuitable("expected a whole number, got one with a fraction")
            if abs(value) > EXACT:
                raise Unsuitable("expected a whole number that JSON can carry exactly (up to 2^53)")
            value = int(value)
        elif type(value) is str and _DIGITS.fullmatch(value):
            # Protobuf's JSON writes whole numbers of 64 bits as text, because a double cannot hold them all.
            value = int(value)
        if type(value) is not int:
            raise Unsuitable(f"expected a whole number, got {got(value)}")
        if not -limit <= value < limit:
            raise Unsuitable(f"expected a whole number of {bits} bits")
        return value

    return convert


def truth(value: object) -> bool:
    """A boolean. 0 and 1 pass for it, as data frames and databases write it so."""
    if type(value) is bool:
        return value
    if type(value) in (int, float) and value in (0, 1):
        return bool(value)
    raise Unsuitable(f"expected true or false, got {got(value)}")


def text(value: object) -> str:
    """A string."""
    if type(value) is not str:
        raise Unsuitable(f"expected text, got {got(value)}")
    return value


def moment(value: object) -> datetime:
    """A point in time, without a zone, in UTC: what MLflow's datetime columns hold."""
    if type(value) is str:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise Unsuitable("expected a time as RFC 3339 has it, like 2024-03-31T12:00:00Z") from None
    if not isinstance(value, datetime):
        raise Unsuitable(f"expected a time as text, got {got(value)}")
    try:
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    except OverflowError:
        raise Unsuitable("expected a time between the years 1 and 9999, UTC") from None


def binary(value: object) -> bytes:
    """Bytes; in a request they come as base64."""
    if type(value) is bytes:
        return value
    try:
        return base64.b64decode(text(value), validate=True)
    except binascii.Error:
        raise Unsuitable("expected bytes as base64") from None


def _anything(value: object) -> object:
    # Arrays, maps and objects of MLflow: the model's own side checks them.
    return value


CONVERSIONS: dict[str, Convert] = {
    "double": number,
    "float": _single,
    "long": whole(64),
    "integer": whole(32),
    "boolean": truth,
    "string": text,
    "datetime": moment,
    "binary": binary,
}


def _element(dtype: str) -> Convert:
    if dtype.startswith("float"):
        return _single if dtype == "float32" else number
    if dtype.startswith(("int", "uint")):
        return whole(64)
    if dtype.startswith("bool"):
        return truth
    return text


def _tensor(element: Convert, shape: Sequence[int]) -> Convert:
    """The conversion of one row of a tensor: nested lists of `shape`, -1 where a length varies."""
    scalar_too = not shape or list(shape) == [1]

    def convert(value: object) -> object:
        if not isinstance(value, list) and scalar_too:
            item = element(value)
            return [item] if shape else item
        return _nested(element, value, shape)

    return convert


def _nested(element: Convert, value: object, shape: Sequence[int]) -> object:
    if not shape:
        return element(value)
    if not isinstance(value, list):
        raise Unsuitable(f"expected lists {len(shape)} deep, got {got(value)}")
    if shape[0] not in (-1, len(value)):
        raise Unsuitable(f"expected a list of {shape[0]}, got one of {len(value)}")
    return [_nested(element, item, shape[1:]) for item in value]
