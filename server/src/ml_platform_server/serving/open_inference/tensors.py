"""Tensors between the Open Inference Protocol and NumPy. Raw ones are not copied on their way in."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from ml_platform_server import protobuf_encoding, varints
from ml_platform_server.errors import PlatformError, invalid
from ml_platform_server.open_inference import InferTensorContents, Message
from ml_platform_server.serving.inputs.column_wire import packed_content
from ml_platform_server.serving.inputs.columns import Array, Values
from ml_platform_server.serving.open_inference.datatypes import BYTES, DTYPES, FIELDS, of_array
from ml_platform_server.serving.outputs.prediction import finite
from ml_platform_server.serving.rpc.in_flight import MOST_ROWS
from ml_platform_server.turns import Turn

_LENGTH = struct.Struct("<I")
_LONG = 8  # bytes


# More than any model has. Without a bound the product alone of many sizes would take seconds.
MAX_DIMENSIONS = 16
MAX_ROW_ELEMENTS = 2**24
MAX_INPUTS = 10_000
# Each becomes a Python object.
MAX_TEXTS = MOST_ROWS
# Typed elements from which reading all at once takes less time than one by one.
_MANY = 256


async def decode_tensors(request: Message) -> dict[str, Array]:
    """The inputs of a request by name. Those of BYTES are arrays of objects: bytes, or texts already.

    Other calls have their turn between two inputs.

    Raises:
        PlatformError: INVALID_FIELDS for inputs that are not what they say they are.
    """
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid("raw_input_contents", f"has {len(raw)} entries for {len(request.inputs)} inputs; all are raw, or none is")
    if len(request.inputs) > MAX_INPUTS:
        raise invalid("inputs", f"has {len(request.inputs)} entries; at most {MAX_INPUTS} are allowed")
    found: dict[str, Array] = {}
    turn = Turn()
    for at, tensor in enumerate(request.inputs):
        where = f"inputs[{at}]"
        if tensor.name in found:
            raise invalid(f"{where}.name", "is the name of another input too")
        found[tensor.name] = _received(tensor, raw[at] if raw else None, where)
        if turn.over:
            await turn.next()
    return found


def _received(tensor: Message, raw: bytes | None, where: str) -> Array:
    shape, datatype = list(tensor.shape), tensor.datatype
    if datatype != BYTES and datatype not in DTYPES:
        raise invalid(f"{where}.datatype", f"must be one of {', '.join([*DTYPES, BYTES])}")
    if not shape or shape[0] < 0 or any(size < 1 for size in shape[1:]):
        raise invalid(f"{where}.shape", "must have the rows first, which may be 0, and then dimensions of at least 1")
    if shape[0] > MOST_ROWS:
        raise invalid(f"{where}.shape", f"has more than {MOST_ROWS:,} rows; send several requests")
    if len(shape) > MAX_DIMENSIONS or math.prod(shape[1:]) > MAX_ROW_ELEMENTS:
        most = f"{MAX_DIMENSIONS} dimensions, or rows of more than {MAX_ROW_ELEMENTS:,} elements"
        raise invalid(f"{where}.shape", f"has more than {most}")
    count = math.prod(shape)
    if datatype == BYTES and count > MAX_TEXTS:
        raise invalid(
            f"{where}.shape", f"says {count:,} elements of BYTES, and at most {MAX_TEXTS:,} are allowed; send several requests"
        )
    if raw is None:
        elements = _typed(tensor.contents, datatype, shape, where)
    elif tensor.HasField("contents") and tensor.contents.ListFields():
        raise invalid(f"{where}.contents", "must not be set beside raw_input_contents")
    else:
        elements = _raw(raw, datatype, shape, where)
    return elements.reshape(shape)


def _check_count(found: int, shape: Sequence[int], where: str, *, more: bool = False) -> None:
    count = math.prod(shape)
    if found != count:
        raise invalid(where, f"has {f'more than {count}' if more else found} elements, and its shape {[*shape]} says {count}")


def _raw(raw: bytes, datatype: str, shape: Sequence[int], where: str) -> Array:
    count = math.prod(shape)
    if datatype == BYTES:
        return _objects(_short_texts(raw, count) or _strings(raw, shape, where))
    dtype = DTYPES[datatype]
    if len(raw) != count * dtype.itemsize:
        raise invalid(where, f"has {len(raw)} bytes, and its shape and datatype say {count * dtype.itemsize}")
    return np.frombuffer(raw, dtype) if raw else np.empty(0, dtype)


def _strings(raw: bytes, shape: Sequence[int], where: str) -> list[bytes]:
    found: list[bytes] = []
    start, end, count = 0, len(raw), math.prod(shape)
    while start < end:
        if len(found) == count:
            _check_count(count + 1, shape, where, more=True)
        if end - start < _LENGTH.size:
            raise _cut_short(where)
        start, length = start + _LENGTH.size, _LENGTH.unpack_from(raw, start)[0]
        if length > end - start:
            raise _cut_short(where)
        found.append(raw[start : start + length])
        start += length
    _check_count(len(found), shape, where)
    return found


def _short_texts(raw: bytes, count: int) -> list[str] | None:
    """The elements as texts, if all are ASCII, not empty, and so short that three zeros, the rest of a length, part them."""
    if not raw.isascii() or raw.count(b"\0\0\0") != count:
        return None
    pieces = raw.decode("ascii").split("\0\0\0")
    texts = [piece[:-1] for piece in pieces]  # the first byte of the next one's length ends each but the last
    texts[-1] = pieces[-1]
    del texts[0]
    if len(pieces[0]) != 1 or not texts or list(map(len, texts)) != [ord(piece[-1:] or "\0") for piece in pieces[:-1]]:
        return None
    return texts


def _cut_short(where: str) -> PlatformError:
    return invalid(where, "ends within an element: each BYTES element stands behind its length, 4 bytes little-endian")


def _typed(contents: Message, datatype: str, shape: Sequence[int], where: str) -> Array:
    field = FIELDS.get(datatype)
    if field is None:
        raise invalid(f"{where}.contents", f"cannot hold {datatype}; send it in raw_input_contents")
    given = [each.name for each, _ in contents.ListFields()]
    if given not in ([], [field]):
        raise invalid(f"{where}.contents", f"must hold {datatype} in {field}, and nothing else")
    values = getattr(contents, field)
    _check_count(len(values), shape, where)
    if datatype == BYTES:
        return _objects(list(values))
    if len(values) >= _MANY:
        found = _at_once(contents, DTYPES[datatype])
        if found is None:
            raise _not_held(datatype, where)
        return found
    try:
        return np.fromiter(values, DTYPES[datatype], len(values))
    except OverflowError:
        raise _not_held(datatype, where) from None


def _at_once(contents: Message, dtype: np.dtype[Any]) -> Array | None:
    """The typed elements without a Python object for each; None if one is not of the type."""
    data = packed_content(contents)
    if dtype.kind in "fb":
        return np.frombuffer(data, dtype)
    numbers = varints.unpacked(data)
    if dtype.itemsize == _LONG:
        return numbers.view(dtype)
    limits = np.iinfo(dtype)
    return numbers.astype(dtype) if limits.min <= numbers.min() and numbers.max() <= limits.max else None


def _not_held(datatype: str, where: str) -> PlatformError:
    return invalid(f"{where}.contents", f"has a number that {datatype} does not hold")


def _objects(things: Sequence[object]) -> Array:
    array = np.empty(len(things), np.object_)
    array[:] = things
    return array


# The tags of the fields whose packed elements are as NumPy has them.
_PACKED = {"bool_contents": b"\x0a", "fp32_contents": b"\x32", "fp64_contents": b"\x3a"}


class OpenInferenceInputs:
    """The outputs of a response, one by one.

    Args:
        response: the ModelInferResponse that they are added to.
        raw: whether their elements go into its raw_output_contents.
    """

    def __init__(self, response: Message, *, raw: bool) -> None:
        self._response = response
        self._raw = raw

    def add(self, name: str, values: Values) -> None:
        """Tell an output."""
        array = values if isinstance(values, np.ndarray) else None
        datatype = of_array(array.dtype) if array is not None else None
        tensor = self._response.outputs.add(name=name, datatype=datatype or BYTES)
        if array is None or datatype is None:
            self._add_bytes(tensor, values.tolist() if isinstance(values, np.ndarray) else values)
            return
        tensor.shape.extend(array.shape)
        if self._raw or datatype not in FIELDS:
            self._response.raw_output_contents.append(_little_endian(array))
        elif array.dtype.kind in "fb" and array.size:
            tensor.contents.MergeFromString(protobuf_encoding.field(_PACKED[FIELDS[datatype]], _little_endian(array)))
        else:
            tensor.contents.CopyFrom(InferTensorContents(**{FIELDS[datatype]: array.reshape(-1).tolist()}))

    def _add_bytes(self, tensor: Message, values: Sequence[object]) -> None:
        elements = [_text(value).encode() for value in values]
        tensor.shape.append(len(elements))
        if self._raw:
            self._response.raw_output_contents.append(b"".join(_LENGTH.pack(len(each)) + each for each in elements))
        else:
            tensor.contents.bytes_contents.extend(elements)


def _little_endian(array: Array) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _text(value: object) -> str:
    """What no tensor can hold is told as JSON: objects, lists of unlike things, nulls."""
    return value if isinstance(value, str) else json.dumps(finite(value), default=str)
