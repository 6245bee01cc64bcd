"""Writes to Redis with a compare-and-set for each row: what another writer stored meanwhile is never lost.

Feast's own write reads the stored times, then writes, and drops a row of the same time. Here Feast's code only lays the rows out,
and a script writes each of them if the stored time is still the one that the row was compared with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Self

from feast import FeatureView
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.repo_config import RepoConfig
from google.protobuf.timestamp_pb2 import Timestamp

from ml_platform_server.backends.feast.writes.rows import FeastRow

CHUNK_ROWS = 1000
"""More in one pipeline would keep all their replies, and the server, for long."""

NO_TIME = b"-"
"""Stands for a hash without the view. It is no Timestamp's encoding, and the time 0 is encoded as no bytes at all."""

COMPARE_AND_SET = """
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '-'
if found ~= ARGV[2] then return found end
for at = 4, #ARGV, 1000 do
  redis.call('HSET', KEYS[1], unpack(ARGV, at, math.min(at + 999, #ARGV)))
end
if ARGV[3] ~= '0' then redis.call('EXPIRE', KEYS[1], ARGV[3]) end
return 1
"""
"""Returns 1 if the row was written, or else the time that is stored now. Lua passes no more than some thousand values at once."""


@dataclass(slots=True)
class _Hash:
    """A row as Feast stores it."""

    key: bytes
    fields: Mapping[str | bytes, bytes]
    ttl: int = 0


class _Recorder:
    """Stands for the client of Redis while Feast lays rows out: it has nothing stored, and remembers what is written."""

    def __init__(self) -> None:
        self.hashes: list[_Hash] = []
        self._asked = 0

    def pipeline(self, transaction: bool = True) -> _Recorder:  # noqa: ARG002  # redis's signature
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        return

    def hmget(self, *_: object) -> None:
        self._asked += 1

    def hset(self, key: bytes, *, mapping: Mapping[str | bytes, bytes]) -> None:
        self.hashes.append(_Hash(key, mapping))

    def expire(self, name: bytes, time: int) -> None:
        if self.hashes[-1].key != name:
            raise RuntimeError("Feast lets another hash expire than the one that it wrote.")
        self.hashes[-1].ttl = time

    def execute(self) -> list[list[None]]:
        asked, self._asked = self._asked, 0
        return [[None]] * asked


class _Layout(RedisOnlineStore):
    """Feast's own store, with a recorder in place of its client."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = _Recorder()

    def _get_client(self, _config: object) -> Any:  # noqa: ANN401  # Feast's own hook
        return self.recorder


def write(
    store: RedisOnlineStore, config: RepoConfig, view: FeatureView, rows: Sequence[FeastRow]
) -> Iterator[tuple[int, datetime]]:
    """Write rows of different entities. Yields the index of each that is not written, and the newer event time that is stored."""
    client = store._get_client(config.online_store)
    numbered = enumerate(rows)
    while part := list(islice(numbered, CHUNK_ROWS)):
        yield from _write_part(client, config, view, part)


def _write_part(
    client: Any,  # noqa: ANN401  # redis.Redis or a cluster's client
    config: RepoConfig,
    view: FeatureView,
    part: Sequence[tuple[int, FeastRow]],
) -> Iterator[tuple[int, datetime]]:
    hashes = lay_out(config, view, [row for _, row in part])
    (time_field,) = {next(iter(one.fields)) for one in hashes}  # The first that Feast lays out.
    with client.pipeline(transaction=False) as pipe:
        for one in hashes:
            pipe.hget(one.key, time_field)
        stored = pipe.execute()
    pending = list(zip((index for index, _ in part), hashes, stored, strict=True))
    while pending:
        tried = []
        for index, one, found in pending:
            if found is not None and _nanoseconds(found) > _nanoseconds(one.fields[time_field]):
                yield index, _moment(found)
            else:
                tried.append((index, one, found))
        pending = [
            (index, one, None if reply == NO_TIME else reply)
            for (index, one, _), reply in zip(tried, _set_all(client, time_field, tried), strict=True)
            if reply != 1
        ]


def _set_all(client: Any, time_field: str | bytes, tried: Sequence[tuple[int, _Hash, bytes | None]]) -> list[int | bytes]:  # noqa: ANN401
    if not tried:
        return []
    with client.pipeline(transaction=False) as pipe:
        for _, one, found in tried:
            expected = NO_TIME if found is None else found
            pairs = [item for pair in one.fields.items() for item in pair]
            pipe.eval(COMPARE_AND_SET, 1, one.key, time_field, expected, one.ttl, *pairs)
        replies: list[int | bytes] = pipe.execute()
    return replies


def lay_out(config: RepoConfig, view: FeatureView, rows: Sequence[FeastRow]) -> list[_Hash]:
    """The hashes that Feast's own code would write for rows of different entities, in their order."""
    layout = _Layout()
    layout.online_write_batch(config, view, list(rows), None)
    hashes = layout.recorder.hashes
    if len(hashes) != len(rows):
        raise RuntimeError(f"Feast lays {len(rows)} rows out as {len(hashes)} hashes.")
    return hashes


def _nanoseconds(raw: bytes) -> int:
    return Timestamp.FromString(raw).ToNanoseconds()


def _moment(raw: bytes) -> datetime:
    return Timestamp.FromString(raw).ToDatetime(UTC)
