"""Reads without Feast by columns, beside the same reads by rows, on a store that answers from memory."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from typing import Any

import hiredis
import pytest
from feast.protos.feast.types.Value_pb2 import StringList, Value
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.plan import JoinKey, by_column, listed
from ml_platform_server.backends.feast.redis import read_columns, read_rows
from ml_platform_server.backends.feast.redis.connection import Address
from ml_platform_server.backends.feast.redis.decode import Reader, reader
from ml_platform_server.backends.feast.redis.layout import ENCODERS, HashQuery, KeyTemplate, Layout, ViewFields
from ml_platform_server.backends.feast.redis.read_columns import CHUNK_ENTITIES
from ml_platform_server.backends.feast.types import from_feast
from ml_platform_server.errors import PlatformError

TEXT, WHOLE = features_pb2.VALUE_TYPE_STRING, features_pb2.VALUE_TYPE_INT64
NOW = int(time.time())
FIELDS = ["double_val", "int64_val", "float_val", "bool_val", "string_val", "", "double_val", "unix_timestamp_val"]
VALUES = [
    [Value(double_val=0.5), Value(double_val=-1e300)],
    [Value(int64_val=3), Value(int64_val=-3), Value(int64_val=2**60)],
    [Value(float_val=0.1)],
    [Value(bool_val=True), Value(bool_val=False)],
    [Value(string_val="größe"), Value(string_val=""), Value(string_val="x" * 300)],
    [Value(string_list_val=StringList(val=["a"])), Value(unix_timestamp_val=1_700_000_000)],
    [Value(double_val=float("nan")), Value(double_val=1.0)],
    [
        Value(unix_timestamp_val=0),
        Value(unix_timestamp_val=-1),
        Value(unix_timestamp_val=-(2**63)),
        Value(unix_timestamp_val=2**62),
    ],
]
STAMPS = [Timestamp(seconds=NOW), Timestamp(seconds=NOW - 1000, nanos=123_456_789), Timestamp(seconds=-5), Timestamp(), None]
KEYS: dict[str, list[Any]] = {
    "user": ["a", "", "größe", "数据🙂", "x" * 127, "x" * 128, "x" * 300, "\r\n", "user_157", *(f"u{at}" for at in range(700))],
    "place": [0, 1, -1, 2**63 - 1, -(2**63), *range(5, 300)],
}


class Store:
    """A store that makes up what it holds, and remembers it."""

    def __init__(self, seed: int, gaps: float) -> None:
        self._chance = random.Random(seed)
        self._gaps = gaps
        self._held: dict[tuple[bytes, bytes], bytes | None] = {}
        self.asked: list[bytes] = []

    async def ask(self, commands: bytes, count: int) -> list[object]:
        """The answers, as hiredis gives them."""
        reader = hiredis.Reader()
        reader.feed(commands)
        answers: list[object] = []
        for _ in range(count):
            words = reader.gets()
            assert words[0] == b"HMGET"
            self.asked.append(words[1])
            answers.append([self._value(words[1], field) for field in words[2:]])
        assert reader.gets() is False
        return answers

    def _value(self, key: bytes, field: bytes) -> bytes | None:
        if (key, field) not in self._held:
            self._held[key, field] = self._made(field)
        return self._held[key, field]

    def _made(self, field: bytes) -> bytes | None:
        chance = self._chance
        if chance.random() < self._gaps:
            return chance.choice([None, b""])
        if field.startswith(b"_ts:"):
            stamp = chance.choice(STAMPS if self._gaps else STAMPS[:2])
            return stamp.SerializeToString() if stamp is not None else None
        if chance.random() < self._gaps:
            return chance.choice(chance.choice(VALUES)).SerializeToString()
        return chance.choice(VALUES[int(field[-1:])]).SerializeToString()


def as_kind(kind: int) -> Reader:
    """What reads the values of a feature of this kind."""
    return reader(FIELDS[kind], lambda raw: from_feast(Value.FromString(raw), FIELDS[kind]))


def hash_read(keys: Sequence[str], fields: Sequence[int], max_age: float | None, *more: int) -> HashQuery:
    """A read of one view with features of these kinds, or of two."""
    kinds = {"user": TEXT, "place": WHOLE}
    template = KeyTemplate(b"\x03head", tuple((key, ENCODERS[kinds[key]], f"{key}/tail".encode()) for key in keys))
    named = [*(b"f%d" % kind for kind in fields), b"_ts:one"]
    views = [ViewFields(0, len(fields), max_age, tuple(map(as_kind, fields)))]
    if more:
        views.append(ViewFields(len(named), len(named) + len(more), None, tuple(map(as_kind, more))))
        named += [*(b"g%d" % kind for kind in more), b"_ts:two"]
    return HashQuery(template, named, views)


def layout(*reads: HashQuery, order: Sequence[int]) -> Layout:
    """What a plan of these reads needs."""
    return Layout(Address("nowhere", 1), reads, tuple(order))


LAYOUTS: dict[str, tuple[Sequence[str], Layout]] = {
    "one view": (["user"], layout(hash_read(["user"], [0, 1, 0, 2, 3], 60.0), order=range(5))),
    "text": (["user"], layout(hash_read(["user"], [4, 0, 5, 6, 7], 60.0), order=[4, 3, 2, 1, 0])),
    "two views": (["user"], layout(hash_read(["user"], [1, 1], 60.0, 0, 4), order=[2, 0, 1, 3])),
    "whole keys": (["place"], layout(hash_read(["place"], [0, 1], None), order=range(2))),
    "both keys": (["user", "place"], layout(hash_read(["user", "place"], [0, 1], 60.0), order=range(2))),
    "two reads": (
        ["user", "place"],
        layout(hash_read(["user"], [0, 1], 60.0), hash_read(["place"], [1, 4], 5000.0), order=[3, 0, 2, 1]),
    ),
    "no keys": ([], layout(hash_read([], [0, 1, 4], 60.0), order=range(3))),
}


def entities(keys: Sequence[str], count: int, chance: random.Random) -> Mapping[str, list[Any]]:
    """So many entities, no two alike."""
    pairs = list(dict.fromkeys(tuple(chance.choice(KEYS[key]) for key in keys) for _ in range(20 * count)))[:count]
    return {key: [pair[at] for pair in pairs] for at, key in enumerate(keys)}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("gaps", [0.0, 0.02, 0.5])
@pytest.mark.parametrize("count", [1, 3, 60, 600])
async def test_columns_hold_what_rows_hold(name: str, gaps: float, count: int) -> None:
    """Values in their types, and statuses: for every kind of value and key, and for what is missing, stale or odd."""
    keys, wanted = LAYOUTS[name]
    named = entities(keys, count if keys else 1, random.Random(count))
    count = len(next(iter(named.values()))) if keys else 1
    join_keys = [JoinKey(key, {"user": TEXT, "place": WHOLE}[key]) for key in keys]
    store = Store(count, gaps)
    columns = await read_columns.read(wanted, join_keys, named, count, store.ask)
    for begin in range(0, len(store.asked), CHUNK_ENTITIES) if len(wanted.reads) == 1 else ():
        together = store.asked[begin : begin + CHUNK_ENTITIES]
        assert len(together) == len(set(together))  # no hash is read twice
    rows = [dict(zip(named, row, strict=True)) for row in zip(*named.values(), strict=True)] or [{}]
    expected = by_column(await read_rows.read(wanted, join_keys, rows, store.ask), len(wanted.order))
    for ours, theirs in zip(columns, expected, strict=True):
        assert [repr(value) for value in listed(ours.values)] == [repr(value) for value in theirs.values]
        assert list(ours.statuses) == list(theirs.statuses)


async def test_a_key_that_fits_no_hash_is_told_as_for_rows() -> None:
    """With the same error."""
    _, wanted = LAYOUTS["whole keys"]
    join_keys = [JoinKey("place", WHOLE)]
    store = Store(0, 0.0)
    errors = []
    for reading in (
        read_columns.read(wanted, join_keys, {"place": [1, 2**70]}, 2, store.ask),
        read_rows.read(wanted, join_keys, [{"place": 1}, {"place": 2**70}], store.ask),
    ):
        with pytest.raises(PlatformError) as caught:
            await reading
        errors.append(caught.value)
    assert errors[0].message == errors[1].message
    assert errors[0].reason == errors[1].reason


async def test_a_hash_that_several_entities_share_is_read_once() -> None:
    """Entities that differ in another read's key alone."""
    keys, wanted = LAYOUTS["two reads"]
    store = Store(0, 0.0)
    named: dict[str, list[Any]] = {"user": ["a", "b", "a"], "place": [1, 1, 2]}
    columns = await read_columns.read(wanted, [JoinKey(keys[0], TEXT), JoinKey(keys[1], WHOLE)], named, 3, store.ask)
    assert len(store.asked) == len(set(store.asked)) == 4
    assert listed(columns[1].values)[0] == listed(columns[1].values)[2]
