"""Tensors read many elements at once, beside the same read one by one."""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from ml_platform_server.errors import PlatformError
from ml_platform_server.open_inference import ModelInferRequest
from ml_platform_server.serving.open_inference import tensors
from ml_platform_server.serving.open_inference.datatypes import DTYPES, FIELDS
from ml_platform_server.serving.open_inference.tensors import decode_tensors

PLAIN = ["a", "electronics", "x" * 127, "\x7f", "a\0b", "12"]
ODD = ["", "\0", "\0\0\0", "\0\0\0\0a", "a\0", "a\0\0\0", "größe", "数据🙂", "x" * 128, "x" * 300, "\x01\0\0\0a"]


def packed(texts: Sequence[str]) -> bytes:
    """Each behind its length."""
    return b"".join(struct.pack("<I", len(each.encode())) + each.encode() for each in texts)


async def read(raw: bytes, count: int) -> list[str]:
    """The texts of a tensor."""
    request = ModelInferRequest(raw_input_contents=[raw])
    request.inputs.add(name="s", datatype="BYTES", shape=[count])
    return [each if isinstance(each, str) else each.decode() for each in (await decode_tensors(request))["s"].tolist()]


@pytest.mark.parametrize("seed", range(200))
async def test_texts_are_what_was_sent(seed: int) -> None:
    """Whatever is in them: zeros, other alphabets, nothing, more than a byte can count."""
    chance = random.Random(seed)
    choices = (
        PLAIN if seed % 4 == 0 else [*PLAIN, *ODD] if seed % 4 == 1 else ODD if seed % 4 == 2 else ["a", "", "\0", "\x01\0\0\0a"]
    )
    texts = chance.choices(choices, k=chance.randint(1, 20))
    assert await read(packed(texts), len(texts)) == texts


@pytest.mark.parametrize("seed", range(300))
async def test_bytes_that_end_within_an_element_are_refused(seed: int) -> None:
    """As they are when they are read one by one: what is taken always adds up to what was sent."""
    chance = random.Random(seed)
    raw = packed(chance.choices(["a", "bc", "\0", ""], k=chance.randint(1, 5)))
    cut = chance.choice([raw[: chance.randrange(len(raw))], raw + chance.choice([b"a", b"\x01", b"\x02\0\0\0a", b"\0\0\0"])])
    for count in range(1, 7):
        with contextlib.suppress(PlatformError):
            assert packed(await read(cut, count)) == cut


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
async def test_shapes_beyond_any_models_are_refused_before_they_are_multiplied(shape: list[int]) -> None:
    """A shape of many or huge sizes costs nothing, also where there are no rows."""
    request = ModelInferRequest(raw_input_contents=[b"\0" * 8])
    request.inputs.add(name="s", datatype="FP64", shape=shape)
    with pytest.raises(PlatformError, match="shape") as refused:
        await decode_tensors(request)
    assert refused.value.reason_name == "INVALID_FIELDS"


async def test_shapes_of_many_dimensions_are_read() -> None:
    """Up to sixteen dimensions, and no rows of a large size, are as they say."""
    request = ModelInferRequest(raw_input_contents=[b"\0" * 8, b""])
    request.inputs.add(name="a", datatype="FP64", shape=[1] * 16)
    request.inputs.add(name="b", datatype="FP64", shape=[0, 2**24])
    assert [array.shape for array in (await decode_tensors(request)).values()] == [(1,) * 16, (0, 2**24)]


TYPED = [datatype for datatype in FIELDS if datatype != "BYTES"]
# By field: the numbers that it can hold, at their borders and beyond those of the smaller types that share it.
NUMBERS: dict[str, list[float]] = {
    "bool_contents": [False, True],
    "int_contents": [0, 1, -1, 127, 128, -128, -129, 2**15 - 1, 2**15, -(2**15), -(2**15) - 1, 2**31 - 1, -(2**31)],
    "int64_contents": [0, 1, -1, 2**53 + 1, 2**63 - 1, -(2**63)],
    "uint_contents": [0, 1, 127, 128, 255, 256, 2**16 - 1, 2**16, 2**32 - 1],
    "uint64_contents": [0, 1, 2**53 + 1, 2**63, 2**64 - 1],
    "fp32_contents": [0.0, -0.0, 0.1, 3.4e38, float("inf"), float("nan"), 1e-45],
    "fp64_contents": [0.0, -0.0, 0.1, 1.7e308, float("-inf"), float("nan"), 5e-324],
}


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("datatype", TYPED)
async def test_typed_elements_are_the_same_at_once_and_one_by_one(
    datatype: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit; and a number that the type does not hold is refused both ways."""
    chance, field = random.Random(seed), FIELDS[datatype]
    known = NUMBERS[field] if seed % 2 else [number for number in NUMBERS[field] if holds(datatype, number)]
    request = ModelInferRequest()
    tensor = request.inputs.add(name="s", datatype=datatype, shape=[20])
    getattr(tensor.contents, field).extend(chance.choices(known, k=20))
    found: list[bytes | str] = []
    for many in (1, 100):
        monkeypatch.setattr(tensors, "_MANY", many)
        try:
            array = (await decode_tensors(request))["s"]
        except PlatformError as error:
            found.append(error.message)
        else:
            assert array.dtype == DTYPES[datatype]
            found.append(array.tobytes())
    assert found[0] == found[1]
    if not seed % 2:
        assert isinstance(found[0], bytes)


def holds(datatype: str, number: float) -> bool:
    """Whether a number is one of the type."""
    dtype = DTYPES[datatype]
    return dtype.kind not in "iu" or np.iinfo(dtype).min <= number <= np.iinfo(dtype).max


@pytest.mark.parametrize("count", [299, 301])
@pytest.mark.parametrize("datatype", [*TYPED, "BYTES"])
async def test_another_number_of_elements_than_the_shape_says_is_refused(datatype: str, count: int) -> None:
    """Typed and raw, too few and too many."""
    typed, raw = ModelInferRequest(), ModelInferRequest()
    for request in (typed, raw):
        request.inputs.add(name="s", datatype=datatype, shape=[300])
    elements = [b"a"] * count if datatype == "BYTES" else [1] * count
    getattr(typed.inputs[0].contents, FIELDS[datatype]).extend(elements)
    raw.raw_input_contents.append(packed(["a"] * count) if datatype == "BYTES" else bytes(DTYPES[datatype].itemsize * count))
    for request in (typed, raw):
        with pytest.raises(PlatformError, match=r"inputs\[0\]: has .*say") as refused:
            await decode_tensors(request)
        assert refused.value.reason_name == "INVALID_FIELDS"


async def test_no_more_texts_are_read_than_the_shape_says() -> None:
    """Millions of empty elements are refused behind the last one that belongs to the tensor."""
    request = ModelInferRequest(raw_input_contents=[b"\0" * 4 * 3_000_000])
    request.inputs.add(name="s", datatype="BYTES", shape=[10])
    with pytest.raises(PlatformError, match="has more than 10 elements"):
        await decode_tensors(request)
    request.inputs[0].shape[:] = [1000, 3000]
    with pytest.raises(PlatformError, match="at most 100,000 are allowed"):
        await decode_tensors(request)
