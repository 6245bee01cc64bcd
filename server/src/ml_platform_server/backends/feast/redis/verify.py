"""Proves a layout: Feast reads some rows through a store that only answers from memory, and both must come to the same."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from feast import FeatureService, FeatureStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.online_response import OnlineResponse
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import ValueType
from ml_platform_server.backends.feast import feast_read
from ml_platform_server.backends.feast.plan import Cell, OnlinePlan
from ml_platform_server.backends.feast.redis.layout import Layout
from ml_platform_server.backends.feast.types import to_feast

KEYS: Mapping[ValueType.ValueType, Sequence[object]] = {
    features_pb2.VALUE_TYPE_STRING: ["a", "", "größe 7", "数据🙂", "x" * 300, "line\r\n\0end", "0"],
    features_pb2.VALUE_TYPE_BYTES: [b"a", b"", bytes(range(256)), b"\r\n", b"x" * 300],
    features_pb2.VALUE_TYPE_INT32: [1, 0, -1, 127, 128, 2**31 - 1, -(2**31)],
    features_pb2.VALUE_TYPE_INT64: [1, 0, -1, 255, 2**31, 2**63 - 1, -(2**63)],
}
VALUES: Mapping[ValueType.ValueType, Sequence[object]] = {
    features_pb2.VALUE_TYPE_STRING: ["some", "", "ü" * 90, None],
    features_pb2.VALUE_TYPE_INT32: [1, 0, -1, 300, 70_000, 2**31 - 1, None],
    features_pb2.VALUE_TYPE_INT64: [1, 0, -1, 300, 70_000, 2**21, 2**63 - 1, -(2**63), None],
    features_pb2.VALUE_TYPE_FLOAT: [0.1, 0.0, -1e30, None],
    features_pb2.VALUE_TYPE_DOUBLE: [0.1, 0.0, 1e300, float("inf"), None],
    features_pb2.VALUE_TYPE_BOOL: [True, False, None],
    features_pb2.VALUE_TYPE_TIMESTAMP: [datetime(2024, 5, 6, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC), None],
    features_pb2.VALUE_TYPE_BYTES: [b"some", b"", None],
    features_pb2.VALUE_TYPE_STRING_LIST: [["a", ""], [], None],
    features_pb2.VALUE_TYPE_INT64_LIST: [[1, -2], [], None],
    features_pb2.VALUE_TYPE_FLOAT_LIST: [[0.5], [], None],
    features_pb2.VALUE_TYPE_DOUBLE_LIST: [[0.5], [], None],
}
ROWS = 24
Field = tuple[bytes, bytes]


class Mismatch(Exception):  # noqa: N818  # what it is, in a word
    """Feast and the layout do not come to the same."""


class _Memory(RedisOnlineStore):
    """Feast's own Redis store, but for what goes over the wire: that is made up, and remembered."""

    def __init__(self, types: Mapping[bytes, ValueType.ValueType]) -> None:
        super().__init__()
        self._types = types
        self.stored: dict[Field, bytes | None] = {}

    def _read_hash_fields(self, _config: object, commands: Sequence[tuple[bytes, Sequence[str | bytes]]]) -> list[Any]:
        answers = []
        for key, names in commands:
            fields = [name.encode() if isinstance(name, str) else name for name in names]
            answers.append([self.stored.setdefault((key, field), self._made_up(key, field)) for field in fields])
        return answers

    def _made_up(self, key: bytes, field: bytes) -> bytes | None:
        chance = crc32(key + field)
        if field.startswith(b"_ts:"):
            now = int(time.time())
            seconds, nanos = ((now, 123_456_000), (1_000, 1_999), (-5, 0), (0, 0))[chance % 4]
            return Timestamp(seconds=seconds, nanos=nanos).SerializeToString() if chance % 5 else None
        kind = self._types.get(field, features_pb2.VALUE_TYPE_STRING)
        kind = kind if kind in VALUES else features_pb2.VALUE_TYPE_STRING
        if chance % 7 == 0:
            return None
        if chance % 11 == 0:  # Of an earlier definition.
            kind = features_pb2.VALUE_TYPE_BOOL if kind != features_pb2.VALUE_TYPE_BOOL else features_pb2.VALUE_TYPE_DOUBLE
        return to_feast(VALUES[kind][chance % len(VALUES[kind])], kind).SerializeToString()


class _Project:
    """What reading needs of Feast's store, before such a memory."""

    def __init__(self, store: FeatureStore, memory: _Memory) -> None:
        self._store = store
        self._memory = memory

    def get_online_features(
        self, *, features: FeatureService | list[str], entity_rows: Mapping[str, Sequence[Any]], full_feature_names: bool
    ) -> OnlineResponse:
        """As Feast's store does, with its configuration and its registry."""
        return self._memory.get_online_features(
            self._store.config, features, entity_rows, self._store.registry, self._store.project, full_feature_names
        )


def prove(store: FeatureStore, plan: OnlinePlan, layout: Layout) -> None:
    """Read sample rows both ways.

    Raises:
        Mismatch: they differ.
        Exception: whatever Feast raises.
    """
    memory = _Memory(_types(plan, layout))
    rows = [_row(plan, at) for at in range(ROWS)]
    theirs = feast_read.read(_Project(store, memory), plan, rows)  # type: ignore[arg-type]  # all that reading needs of it
    now = time.time()
    ours = [_cells(layout, memory.stored, row, now) for row in rows]
    if ours != theirs:
        raise Mismatch("the values differ")


def _types(plan: OnlinePlan, layout: Layout) -> dict[bytes, ValueType.ValueType]:
    """The type of each field that holds a feature, by the field's name."""
    fields = [field for read in layout.reads for field in read.fields if not field.startswith(b"_ts:")]
    return {fields[place]: feature.value_type for place, feature in zip(layout.order, plan.features, strict=True)}


def _row(plan: OnlinePlan, at: int) -> dict[str, object]:
    # Keys step through their samples at different speeds, so that they meet in many combinations.
    return {key.name: KEYS[key.value_type][at * (n + 1) % len(KEYS[key.value_type])] for n, key in enumerate(plan.join_keys)}


def _cells(layout: Layout, stored: Mapping[Field, bytes | None], row: Mapping[str, object], now: float) -> list[Cell]:
    cells: list[Cell] = []
    for read in layout.reads:
        key = read.key(row)
        try:
            answer = [stored[key, field] for field in read.fields]
        except KeyError:
            raise Mismatch("the keys differ") from None
        cells += read.cells(answer, now)
    return layout.aligned(cells)
