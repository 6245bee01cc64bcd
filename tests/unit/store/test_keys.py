"""API keys, from their making to their end."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from ml_platform_server import scopes
from ml_platform_server.errors import PlatformError
from ml_platform_server.store import keys as keys_module
from ml_platform_server.store.keys import ApiKeys
from tests.support.frame import opened_store

READ = scopes.parse(["experiments:read"])


@pytest.fixture
async def database(store_url):
    async with opened_store(store_url) as database:
        yield database


@pytest.fixture
def keys(database):
    return ApiKeys(database=database, pepper="a pepper")


@pytest.fixture
async def polling(database):
    """The keys as another process knows them, which polls the store."""
    other = ApiKeys(database=database, pepper="a pepper", refresh_interval=0.01)
    await other.open()
    yield other
    await other.close()


async def eventually(condition):
    """Wait until a condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # nothing signals it
            await asyncio.sleep(0.005)


def guess():
    """A key that is well-formed and nobody's."""
    body = f"mlp_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    return f"{body}_{keys_module._checksum(body)}"


async def refusal(keys, key):
    """The reason for which a key is refused."""
    with pytest.raises(PlatformError) as caught:
        await keys.verify(key)
    return caught.value.reason_name


async def test_a_key_stands_for_its_principal_and_scopes(keys):
    """A key that was made is known, with its principal, its id and its scopes."""
    key, row = await keys.create("ann", READ)
    principal = await keys.verify(key)
    assert ("ann", row.key_id, READ, None) == (principal.name, principal.key_id, principal.scopes, principal.expire_time)


async def test_a_key_reads_as_its_parts(keys):
    """A key is mlp_<id>_<secret>_<checksum>, the id being its public part."""
    key, row = await keys.create("ann", READ)
    prefix, key_id, secret, checksum = key.split("_")
    assert ("mlp", row.key_id, 64, 8) == (prefix, key_id, len(secret), len(checksum))


async def test_the_database_does_not_hold_the_key(keys, database):
    """No column of the row holds the key or its secret."""
    key, _ = await keys.create("ann", READ)
    async with database.session() as session:
        row = (await session.execute(text("SELECT * FROM api_keys"))).one()
    secret = key.split("_")[2]
    assert not any(secret in str(column) or secret.encode() in (column if isinstance(column, bytes) else b"") for column in row)


async def test_a_key_of_another_pepper_is_refused(keys, database):
    """Stored hashes are worth nothing without the pepper."""
    key, _ = await keys.create("ann", READ)
    assert await refusal(ApiKeys(database=database, pepper="another"), key) == "CREDENTIALS_INVALID"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1],
        lambda key: key.upper(),
        lambda key: key + "_x",
        lambda _: "",
        lambda _: "mlp___",
        lambda _: "mlp_\0_ü_" * 99,
    ],
    ids=["cut off", "upper case", "longer", "empty", "no parts", "nonsense"],
)
async def test_a_malformed_key_is_refused(keys, change):
    """What is not even written as a key is refused."""
    key, _ = await keys.create("ann", READ)
    assert await refusal(keys, change(key)) == "CREDENTIALS_INVALID"


async def test_a_key_with_anothers_secret_is_refused(keys, database):
    """The id of one key with the secret of another, well-formed, is no key."""
    first, _ = await keys.create("ann", READ)
    second, _ = await keys.create("bob", READ)
    body = "_".join(["mlp", first.split("_")[1], second.split("_")[2]])
    assert await refusal(keys, f"{body}_{keys_module._checksum(body)}") == "CREDENTIALS_INVALID"


async def test_an_expired_key_is_refused_though_it_is_known(keys, database):
    """The end of a key counts at once, and needs no look at the store."""
    key, row = await keys.create("ann", READ, timedelta(hours=1))
    await keys.verify(key)
    async with database.session() as session:
        await session.execute(text("DROP TABLE api_keys"))
    keys._live = {row.digest: replace(keys.find(key), expire_time=time.time() - 1)}
    assert keys.find(key) is None


async def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(keys):
    """The process that revokes a key forgets that it knew it."""
    key, row = await keys.create("ann", READ)
    await keys.verify(key)
    assert await keys.revoke(row.key_id)
    assert await refusal(keys, key) == "CREDENTIALS_INVALID"


async def test_another_process_notices_a_revoked_key(keys, polling):
    """A process that polls the store lets go of a key that was revoked elsewhere, and says so to those who asked to be told."""
    key, row = await keys.create("ann", READ)
    assert (await polling.verify(key)).name == "ann"
    ended: list[frozenset[str]] = []
    polling.subscribe(ended.append)
    await keys.revoke(row.key_id)
    await eventually(lambda: ended)
    assert (ended, polling.find(key), polling.is_live(row.key_id)) == ([frozenset({row.key_id})], None, False)
    assert await refusal(polling, key) == "CREDENTIALS_INVALID"


async def test_a_key_that_expires_is_announced(keys, polling):
    """The end of a key by its time is announced like its revocation, so that its streams end too."""
    key, row = await keys.create("ann", READ, timedelta(seconds=0.5))
    ended: list[frozenset[str]] = []
    polling.subscribe(ended.append)
    await eventually(lambda: polling.is_live(row.key_id) or ended)
    await eventually(lambda: ended)
    assert polling.find(key) is None


async def test_another_process_learns_of_a_new_key_by_itself(keys, polling):
    """A key that was made elsewhere is known soon, without anybody calling with it."""
    key, _ = await keys.create("ann", READ)
    await eventually(lambda: polling.find(key))


async def test_a_scope_edited_by_hand_counts_in_the_end(keys, database, monkeypatch):
    """What the counts of the keys do not show is read with the next full look."""
    key, _ = await keys.create("ann", READ)
    await keys.verify(key)
    async with database.session() as session:
        await session.execute(text("UPDATE api_keys SET scopes = '[]'"))
    await keys._read()
    assert keys.find(key).scopes == READ
    keys._reload_at = time.monotonic()
    await keys._read()
    assert keys.find(key).scopes == frozenset()


async def test_guesses_share_few_looks_at_the_store(keys, database):
    """Many unknown keys at once are refused after one look that they share, and malformed ones without any."""
    await keys.verify((await keys.create("ann", READ))[0])
    reads = []
    read = keys._read

    async def counted():
        reads.append(datetime.now(UTC))
        await read()

    keys._read = counted
    assert set(await asyncio.gather(*(refusal(keys, guess()) for _ in range(300)))) == {"CREDENTIALS_INVALID"}
    assert len(reads) == 1
    await asyncio.gather(*(refusal(keys, f"mlp_{number}") for number in range(300)))
    assert len(reads) == 1


async def test_a_new_key_works_amid_guesses(keys, database):
    """A key that was made a moment ago is found by a look that began after it came, whatever else is being looked up."""
    other = ApiKeys(database=database, pepper="a pepper")
    guesses = [asyncio.create_task(refusal(other, guess())) for _ in range(50)]
    await asyncio.sleep(0)
    key, _ = await keys.create("ann", READ)
    assert (await other.verify(key)).name == "ann"
    await asyncio.gather(*guesses)


async def test_neither_a_key_nor_its_secret_is_kept_in_memory(keys):
    """What a process keeps of the keys that it verified are hashes."""
    key, _ = await keys.create("ann", READ)
    await keys.verify(key)
    assert key.split("_")[2] not in repr(vars(keys))


async def test_a_known_key_needs_no_database(keys, database):
    """A key verified a moment ago is known while the database is away."""
    key, _ = await keys.create("ann", READ)
    await keys.verify(key)
    async with database.session() as session:
        await session.execute(text("DROP TABLE api_keys"))
    assert (await keys.verify(key)).name == "ann"


async def test_a_store_that_is_away_is_not_the_keys_fault(keys, database):
    """When the look-up fails, the answer is BACKEND_UNAVAILABLE, and nothing is remembered of the key."""
    key, _ = await keys.create("ann", READ)
    async with database.session() as session:
        await session.execute(text("ALTER TABLE api_keys RENAME TO away"))
    assert await refusal(keys, key) == "BACKEND_UNAVAILABLE"
    async with database.session() as session:
        await session.execute(text("ALTER TABLE away RENAME TO api_keys"))
    assert (await keys.verify(key)).name == "ann"


async def test_keys_are_listed_oldest_first(keys):
    """The list has every key, ended ones included."""
    _, first = await keys.create("ann", READ)
    _, second = await keys.create("bob", READ)
    await keys.revoke(first.key_id)
    rows = await keys.list()
    assert [(first.key_id, True), (second.key_id, False)] == [(row.key_id, row.revoke_time is not None) for row in rows]


async def test_revoking_a_key_that_is_not_there_says_so(keys):
    """There is nothing to revoke under an unknown id."""
    assert not await keys.revoke("nothing")


async def test_a_store_that_hangs_keeps_no_expired_key_alive(database, monkeypatch):
    """Keys expire on time, and whoever watches them learns of it, while a poll of the store hangs."""
    keys = ApiKeys(database=database, pepper="a pepper", refresh_interval=0.02)
    key, row = await keys.create("ann", READ, timedelta(seconds=1))
    await keys.open()
    assert keys.find(key)
    ended: list[str] = []
    keys.subscribe(ended.extend)
    monkeypatch.setattr(keys, "_read", asyncio.Event().wait)
    async with asyncio.timeout(30):
        while not ended:  # noqa: ASYNC110  # the subscription has no event
            await asyncio.sleep(0.01)
    assert (ended, keys.find(key)) == ([row.key_id], None)
    await keys.close()


async def test_an_unknown_key_does_not_wait_for_a_store_that_hangs(keys, monkeypatch):
    """Who cannot be looked up is told that the store does not answer."""
    key, _ = await keys.create("ann", READ)
    monkeypatch.setattr(keys, "_read", asyncio.Event().wait)
    monkeypatch.setattr(keys_module, "_LOOK_TIMEOUT", 0.05)
    assert await refusal(keys, key) == "BACKEND_UNAVAILABLE"
    await keys.close()
