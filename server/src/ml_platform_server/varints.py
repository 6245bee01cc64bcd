"""Protobuf's whole numbers of variable length: one, or many at once between their bytes and NumPy.

Each has seven bits a byte, the lowest first, and a bit in every byte but the last that says that more follow. A negative one is
written as what it is in 64 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError

Array = npt.NDArray[Any]

CONTINUATION_BIT = 128
"""Set in every byte of a number but the last."""


def read(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and where it ends.

    Raises:
        DecodeError: it does not end before `end`.
    """
    number = shift = 0
    while at < end and shift < 64:  # noqa: PLR2004  # bits
        byte = data[at]
        at += 1
        if byte < CONTINUATION_BIT:
            return number | byte << shift, at
        number |= (byte & (CONTINUATION_BIT - 1)) << shift
        shift += 7
    raise DecodeError("a number does not end")


def unpacked(data: bytes) -> Array:
    """The numbers that stand one behind the other."""
    whole = np.frombuffer(data, np.uint8)
    if not (whole >= CONTINUATION_BIT).any():
        return whole.astype(np.int64)
    ends = np.flatnonzero(whole < CONTINUATION_BIT) + 1
    starts = np.concatenate(([0], ends[:-1]))
    return numbers(whole, starts, ends - starts)


def numbers(data: Array, starts: Array, sizes: Array) -> Array:
    """The numbers that begin at these bytes and have so many; nothing is checked."""
    found = (data[starts] & (CONTINUATION_BIT - 1)).astype(np.uint64)
    for at in range(1, int(sizes.max())):
        longer = np.flatnonzero(sizes > at)
        found[longer] |= (data[starts[longer] + at] & (CONTINUATION_BIT - 1)).astype(np.uint64) << np.uint64(7 * at)
    return found.view(np.int64)


def packed(array: Array) -> bytes | None:
    """The bytes of these numbers one behind the other, if each has but one; else None."""
    return array.astype(np.uint8).tobytes() if array.min(initial=0) >= 0 and array.max(initial=0) < CONTINUATION_BIT else None
