"""Texts in raw tensors, read many at once, beside the same read one by one."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Sequence

import pytest

from ml_platform_server.errors import PlatformError
from ml_platform_server.open_inference import ModelInferRequest
from ml_platform_server.serving.inference.tensors import received

PLAIN = ["a", "electronics", "x" * 127, "\x7f", "a\0b", "12"]
ODD = ["", "\0", "\0\0\0", "\0\0\0\0a", "a\0", "a\0\0\0", "größe", "数据🙂", "x" * 128, "x" * 300, "\x01\0\0\0a"]


def packed(texts: Sequence[str]) -> bytes:
    """Each behind its length."""
    return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in texts)


def read(raw: bytes, count: int) -> list[str]:
    """The texts of a tensor."""
    request = ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="s", datatype="BYTES", shape=[count])
    return [each if isinstance(each, str) else each.decode() for each in received(request)["s"].tolist()]


@pytest.mark.parametrize("seed", range(200))
def test_texts_are_what_was_sent(seed: int) -> None:
    """Whatever is in them: zeros, other alphabets, nothing, more than a byte can count."""
    chance = random.Random(seed)
    choices = (
        PLAIN if seed % 4 == 0 else [*PLAIN, *ODD] if seed % 4 == 1 else ODD if seed % 4 == 2 else ["a", "", "\0", "\x01\0\0\0a"]
    )
    texts = chance.choices(choices, k=chance.randint(1, 20))
    assert read(packed(texts), len(texts)) == texts


@pytest.mark.parametrize("seed", range(300))
def test_bytes_that_end_within_an_element_are_refused(seed: int) -> None:
    """As they are when they are read one by one: what is taken always adds up to what was sent."""
    chance = random.Random(seed)
    raw = packed(chance.choices(["a", "bc", "\0", ""], k=chance.randint(1, 5)))
    cut = chance.choice([raw[: chance.randrange(len(raw))], raw + chance.choice([b"a", b"\x01", b"\x02\0\0\0a", b"\0\0\0"])])
    for count in range(1, 7):
        with contextlib.suppress(PlatformError):
            assert packed(read(cut, count)) == cut


@pytest.mark.parametrize(
    "shape",
    [
        [2**62] * 10_000,
        [1] * 65,
        [0] + [1] * 64,
        [1] * 17,
        [0, 2**62],
        [0, 2**62, 2**62],
        [1, 2**30, 2**30],
        [2**63 - 1, 2**24 + 1],
    ],
)
def test_shapes_beyond_any_models_are_refused_before_they_are_multiplied(shape: list[int]) -> None:
    """A shape of many or huge sizes costs nothing, also where there are no rows."""
    request = ModelInferRequest(raw_input_contents=[b"\0" * 8])
    request.inputs.add(name="s", datatype="FP64", shape=shape)
    with pytest.raises(PlatformError, match="shape") as refused:
        received(request)
    assert refused.value.reason_name == "INVALID_FIELDS"


def test_shapes_of_many_dimensions_are_read() -> None:
    """Up to sixteen dimensions, and no rows of a large size, are as they say."""
    request = ModelInferRequest(raw_input_contents=[b"\0" * 8, b""])
    request.inputs.add(name="a", datatype="FP64", shape=[1] * 16)
    request.inputs.add(name="b", datatype="FP64", shape=[0, 2**24])
    assert [array.shape for array in received(request).values()] == [(1,) * 16, (0, 2**24)]
