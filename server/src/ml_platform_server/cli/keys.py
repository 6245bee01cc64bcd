"""Makes, lists and revokes API keys in the platform's own database."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import typer

from ml_platform_server import scopes
from ml_platform_server.settings import Settings
from ml_platform_server.store.database import Database
from ml_platform_server.store.keys import ApiKeys
from ml_platform_server.store.tables import ApiKeyRow

_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_LONGEST_NAME = 250


@asynccontextmanager
async def opened_database(settings: Settings, *, migrate: bool = False) -> AsyncIterator[Database]:
    """Open the store. Only a migration creates or changes its tables.

    Raises:
        ValueError: there is no store, or its tables are not up to date.
    """
    database = Database(url=settings.store.url)
    await database.open()
    try:
        await (database.migrate() if migrate else database.require_tables())
        yield database
    finally:
        await database.close()


async def create(settings: Settings, principal: str, names: Sequence[str], expires: str) -> None:
    """Make a key and print it.

    Raises:
        ValueError: an argument or the configuration is not valid.
    """
    if not principal.strip() or len(principal) > _LONGEST_NAME:
        raise ValueError(f"The principal's name has 1 to {_LONGEST_NAME} characters.")
    granted = scopes.parse(names)
    ends = _duration(expires) if expires else None
    async with opened_database(settings) as database:
        key, _ = await _keys(settings, database).create(principal, granted, ends)
    typer.echo(key)


async def show(settings: Settings) -> None:
    """Print a line for each key: id, principal, how it stands, scopes."""
    async with opened_database(settings) as database:
        for row in await ApiKeys(database=database, pepper="").list():
            names = " ".join(scopes.name_of(scope) for scope in row.scopes)
            typer.echo(f"{row.key_id}  {row.principal}  {_standing(row)}  {names}")


async def revoke(settings: Settings, key_id: str) -> None:
    """End a key.

    Raises:
        ValueError: there is no such key.
    """
    async with opened_database(settings) as database:
        if not await ApiKeys(database=database, pepper="").revoke(key_id):
            raise ValueError(f"There is no key '{key_id}'. 'keys list' shows the keys there are.")
    typer.echo(f"{key_id} is revoked.")


def _keys(settings: Settings, database: Database) -> ApiKeys:
    pepper = settings.store.pepper
    if not pepper:
        raise ValueError(
            "ML_PLATFORM_STORE__KEY_PEPPER is not set, and no file names it; API keys are hashed with it. Set it to the server's."
        )
    return ApiKeys(database=database, pepper=pepper)


def _duration(text: str) -> timedelta:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([dhm])", text)
    if match is None:
        raise ValueError(f"'{text}' is no duration. Write '30d', '12h' or '45m'.")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _standing(row: ApiKeyRow) -> str:
    if row.revoke_time is not None:
        return f"revoked {row.revoke_time:%Y-%m-%d}"
    if row.expire_time is None:
        return "valid"
    return f"{'expired' if row.expire_time <= datetime.now(UTC) else 'valid until'} {row.expire_time:%Y-%m-%d %H:%M}"
