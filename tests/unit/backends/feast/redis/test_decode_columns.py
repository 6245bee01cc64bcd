"""Values read many at once, beside the same values read one by one."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest
from feast.protos.feast.types.Value_pb2 import DoubleList, Value

from ml_platform_server.backends.feast.redis.decode import INT64, TAGS, reader
from ml_platform_server.backends.feast.redis.decode_columns import decoded
from ml_platform_server.backends.feast.types import from_feast

WHOLES = [0, 1, -1, 127, 128, 300, 16_383, 16_384, 2**31 - 1, -(2**31)]
WIDE = [*WHOLES, 2**55, 2**56, 2**62, 2**63 - 1, -(2**63), -(2**40)]
DOUBLES = [0.0, -0.0, 0.1, 1e300, -1e-300, float("inf"), float("-inf")]
KINDS = {
    "int32": [Value(int32_val=each) for each in WHOLES],
    "int64": [Value(int64_val=each) for each in WIDE],
    "double": [Value(double_val=each) for each in DOUBLES],
    "float": [Value(float_val=each) for each in (0.0, -0.0, 0.5, 0.1, 3e38, float("inf"))],
    "bool": [Value(bool_val=each) for each in (True, False)],
}
# What is never read at once: Feast's own way, or the readers of single values, know what it is.
ODD = [
    Value(string_val="text"),
    Value(bytes_val=b"\x29" * 8),
    Value(double_list_val=DoubleList(val=[1.0])),
    Value(double_val=float("nan")),
]


def singly(raw: bytes) -> object | None:
    """A value as the readers of single ones read it."""
    field = Value.FromString(raw).WhichOneof("val") or ""
    return reader(field, lambda raw: from_feast(Value.FromString(raw), field)).read(raw)


def raws(values: list[Value], count: int, chance: random.Random) -> list[bytes]:
    """Some of the values, as Feast stores them."""
    return [chance.choice(values).SerializeToString() for _ in range(count)]


@pytest.mark.parametrize("seed", range(50))
def test_what_is_read_at_once_is_what_is_read_singly(seed: int) -> None:
    """Features of every kind, beside each other and mixed with odd ones, have the same values and types, bit for bit."""
    chance = random.Random(seed)
    count = chance.choice([1, 2, 40])
    features: list[list[bytes]] = []
    tags: list[int] = []
    odd = []
    for _ in range(chance.randint(1, 8)):
        kind = chance.choice(list(KINDS))
        tags.append(TAGS[f"{kind}_val"])
        values = raws(KINDS[kind], count, chance)
        if chance.random() < 0.3:
            values[chance.randrange(count)] = chance.choice(ODD).SerializeToString()
            odd.append(len(features))
        features.append(values)
    for at, (feature, found) in enumerate(zip(features, decoded(tags, features), strict=True)):
        assert (found is None) == (at in odd)
        if found is not None:
            expected = [singly(raw) for raw in feature]
            assert [repr(value) for value in found.tolist()] == [repr(value) for value in expected]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x20",  # a number without a byte
        b"\x20\x80",  # one that ends in its middle
        b"\x20\x01\x01",  # one with a byte too many
        b"\x20\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",  # one that is too long
        b"\x18\x80\x80\x80\x80\x10",  # one of more than 32 bits where there are 32
        b"\x29\x00",  # a double cut short
        b"\x29" + struct.pack("<d", 1.0) + b"\x20\x01",  # two values in one
        b"\x38\x02",  # a truth value that is neither
        b"\x38\x80\x00",  # one that is written longer than need be
        b"\x7a\x00",  # a field that nobody knows
    ],
)
def test_bytes_that_are_not_as_expected_are_left_to_the_single_readers(raw: bytes) -> None:
    """They are never read at once, whoever stands beside them."""
    good = {0x20: b"\x20\x05", 0x18: b"\x18\x05", 0x29: b"\x29" + struct.pack("<d", 1.0), 0x38: b"\x38\x01"}.get(
        raw[0], b"\x20\x05"
    )
    tag = good[0]
    assert decoded([tag], [[raw]]) == [None]
    assert decoded([tag], [[good, raw]]) == [None]
    mixed = decoded([tag, tag], [[raw, good], [good, good]])
    assert mixed[0] is None
    assert mixed[1] is not None
    assert mixed[1].tolist() == [singly(good)] * 2


def test_a_number_written_longer_than_need_be_is_the_same_number() -> None:
    """As protobuf has it."""
    (found,) = decoded([INT64], [[b"\x20\x85\x80\x00", b"\x20\x05"]])
    assert found is not None
    assert found.tolist() == [5, 5] == [Value.FromString(b"\x20\x85\x80\x00").int64_val, 5]


def test_text_that_ends_in_zeros_does_not_pass_for_a_number() -> None:
    """Zeros behind a value are part of it."""
    assert decoded([INT64], [[b"\x20\x05\x00", b"\x20\x05"]]) == [None]
    assert decoded([INT64], [[b"\x20\x05", b"\x20\x00"]])[0] is not None
    (found,) = decoded([INT64], [[b"\x20\x00", b"\x20\x00"]])
    assert found is not None
    assert found.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_another_type_are_never_read_at_once(kind: str) -> None:
    """However alike their bytes are, and whether all of them are, or one among others."""
    for other, values in KINDS.items():
        if other != kind:
            raw, good = values[0].SerializeToString(), KINDS[kind][0].SerializeToString()
            assert decoded([TAGS[f"{kind}_val"]], [[raw, raw]]) == [None]
            assert decoded([TAGS[f"{kind}_val"]] * 2, [[good, raw], [raw, good]]) == [None, None]
    assert decoded([0], [[KINDS[kind][0].SerializeToString()]]) == [None]
