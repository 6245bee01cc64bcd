"""API keys, from their making to their end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from ml_platform_server import scopes
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.keys import ApiKeys
from tests.support.frame import opened_database

READ = scopes.parse(["experiments:read"])


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
async def database(tmp_path):
    async with opened_database(tmp_path) as database:
        yield database


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def keys(database, clock):
    return ApiKeys(database=database, pepper="a pepper", clock=clock)


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
    assert await refusal(ApiKeys(database=database, pepper="another"), key) == "API_KEY_INVALID"


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
    assert await refusal(keys, change(key)) == "API_KEY_INVALID"


async def test_a_key_with_anothers_secret_is_refused(keys, database):
    """The id of one key with the secret of another, well-formed, is no key."""
    from ml_platform_server.store import keys as module

    first, _ = await keys.create("ann", READ)
    second, _ = await keys.create("bob", READ)
    body = "_".join(["mlp", first.split("_")[1], second.split("_")[2]])
    assert await refusal(keys, f"{body}_{module._checksum(body)}") == "API_KEY_INVALID"


async def test_an_expired_key_is_refused_even_when_it_is_remembered(keys):
    """The end of a key counts at once, cache or not."""
    key, _ = await keys.create("ann", READ, timedelta(hours=1))
    await keys.verify(key)
    expired, _ = await keys.create("ann", READ, timedelta(seconds=-1))
    assert await refusal(keys, expired) == "API_KEY_INVALID"


async def test_a_revoked_key_is_refused_at_once_where_it_was_revoked(keys):
    """The process that revokes a key forgets that it knew it."""
    key, row = await keys.create("ann", READ)
    await keys.verify(key)
    assert await keys.revoke(row.key_id)
    assert await refusal(keys, key) == "API_KEY_INVALID"


async def test_another_process_notices_a_revoked_key_within_half_a_minute(keys, database, clock):
    """What another process remembers ends after its time."""
    key, row = await keys.create("ann", READ)
    other = ApiKeys(database=database, pepper="a pepper", clock=clock)
    await other.verify(key)
    await keys.revoke(row.key_id)
    assert (await other.verify(key)).name == "ann"
    clock.now += 30
    assert await refusal(other, key) == "API_KEY_INVALID"


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
