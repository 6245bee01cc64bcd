"""Reads many values that Feast wrote at once, with NumPy; what it does not know is left to the readers of single values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ml_platform_server import varints
from ml_platform_server.backends.feast.redis.decode import BOOL, DOUBLE, FLOAT, INT32, INT64

Array = npt.NDArray[Any]
Raw = Sequence[bytes]
"""The bytes of one feature's values, one an entity, none of them empty."""

_EIGHT = np.dtype([("kind", "u1"), ("value", "<f8")])
_FOUR = np.dtype([("kind", "u1"), ("value", "<f4")])
_LEAST, _MOST = 2, 11
"""Bytes of a whole number, first one included."""


def decoded(tags: Sequence[int], features: Sequence[Raw]) -> list[Array | None]:
    """The values of each feature, in the types in which single values are read; None for a feature that has to be read singly.

    Features of one kind are read together: NumPy's price for a step is that of a hundred values.

    Args:
        tags: the first byte of each feature's values, as its Reader has it.
        features: their bytes.
    """
    kinds: dict[int, list[int]] = {}
    for at, tag in enumerate(tags):
        kinds.setdefault(tag, []).append(at)
    found: list[Array | None] = [None] * len(features)
    for kind, places in kinds.items():
        at_once = _AT_ONCE.get(kind)
        read = at_once(kind, list(chain.from_iterable([features[at] for at in places]))) if at_once else None
        if read is not None:
            for at, values in zip(places, read.reshape(len(places), -1), strict=True):
                found[at] = values
        elif len(places) > 1:  # One that is unusual keeps the others from being read together.
            for at in places:
                found[at] = decoded([kind], [features[at]])[0]
    return found


def _doubles(kind: int, raws: Raw) -> Array | None:
    return _floating(kind, raws, _EIGHT)


def _floats(kind: int, raws: Raw) -> Array | None:
    return _floating(kind, raws, _FOUR)


def _floating(kind: int, raws: Raw, layout: np.dtype[Any]) -> Array | None:
    if set(map(len, raws)) != {layout.itemsize}:
        return None
    block = np.frombuffer(b"".join(raws), layout)
    values = block["value"].astype(np.float64)
    # What is not a number is missing.
    return None if (block["kind"] != kind).any() or np.isnan(values).any() else values


def _wholes(kind: int, raws: Raw) -> Array | None:
    sizes = np.fromiter(map(len, raws), np.intp, len(raws))
    if sizes.min() < _LEAST or sizes.max() > _MOST:
        return None
    data = np.frombuffer(b"".join(raws), np.uint8)
    ends = sizes.cumsum()
    starts = ends - sizes
    more = data >= varints.CONTINUATION_BIT
    # In each value, more bytes follow all but its last; the first, which is its kind, belongs to no number.
    regular = np.count_nonzero(more) == len(data) - 2 * len(raws) and not more[ends - 1].any()
    if not regular or (data[starts] != kind).any():
        return None
    numbers = varints.numbers(data, starts + 1, sizes - 1)
    return None if kind == INT32 and (numbers != numbers.astype(np.int32)).any() else numbers


def _flags(kind: int, raws: Raw) -> Array | None:
    if set(map(len, raws)) != {2}:
        return None
    block = np.frombuffer(b"".join(raws), np.uint8).reshape(-1, 2)
    return None if (block[:, 0] != kind).any() or (block[:, 1] > 1).any() else block[:, 1] == 1


_AT_ONCE: Mapping[int, Callable[[int, Raw], Array | None]] = {
    DOUBLE: _doubles,
    FLOAT: _floats,
    INT32: _wholes,
    INT64: _wholes,
    BOOL: _flags,
}
"""What reads values whose first byte is this one."""
