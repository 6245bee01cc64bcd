"""The Open Inference Protocol's types of elements, and what they are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BYTES = "BYTES"
# By type: what NumPy calls it, little-endian as the protocol has it.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
# By type: the field of InferTensorContents that holds its elements. There is none for FP16, which travels raw only.
FIELDS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
_BY_DTYPE = {dtype: name for name, dtype in DTYPES.items()}
_COLUMNS: Mapping[str, str] = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}
# As ONNX Runtime names the elements of a tensor, where NumPy has no such name.
_ELEMENTS: Mapping[str, str] = {"float": "float32", "double": "float64", "float16": "float16"}


def of_array(dtype: np.dtype[Any]) -> str | None:
    """The type of an array's elements; None if the protocol has none for them."""
    return _BY_DTYPE.get(dtype.newbyteorder("<"))


def of_type(name: str) -> str:
    """The type for a column of a signature ("double", "tensor(float32)") or an output of a graph ("tensor(float)")."""
    if not name.startswith("tensor("):
        return _COLUMNS.get(name, BYTES)
    element = name.removeprefix("tensor(").removesuffix(")")
    try:
        return of_array(np.dtype(_ELEMENTS.get(element, element))) or BYTES
    except TypeError:
        return BYTES
