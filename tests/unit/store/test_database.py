"""The platform's own database: transactions, failures, migrations."""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import threading

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text, update
from sqlalchemy.exc import DataError, IntegrityError

from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database
from ml_platform_server.store.migrations import run
from ml_platform_server.store.tables import Base, GenerationRow
from tests.support.frame import opened_database, opened_store, sqlite_url
from tests.support.processes import free_port


@pytest.fixture
async def database(store_url):
    async with opened_store(store_url) as database:
        yield database


@pytest.fixture
async def sqlite_database(tmp_path):
    async with opened_database(tmp_path) as database:
        yield database


async def generation(database):
    """The value that the tests write."""
    async with database.session() as session:
        return (await session.get_one(GenerationRow, 1)).value


async def test_the_migrations_make_the_tables_that_the_code_declares(database):
    """Nothing differs between the tables after all migrations and the metadata."""

    def differences(connection):
        return compare_metadata(MigrationContext.configure(connection), Base.metadata)

    async with database.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_the_migrations_make_the_conditional_indexes(database):
    """The indexes that let one deployment be active, and one in progress, hold under their conditions only."""

    def conditions(connection):
        indexes = inspect(connection).get_indexes("deployments")
        where = f"{connection.dialect.name}_where"
        return {index["name"]: str(index["dialect_options"][where]).strip("()") for index in indexes if index["unique"]}

    async with database.engine.connect() as connection:
        found = await connection.run_sync(conditions)
    assert found == {"one_in_progress": "state = 1", "one_active": "state = 2"}


async def test_migrating_again_changes_nothing(database):
    """A server that starts on a migrated database leaves what is in it."""
    async with database.session() as session:
        (await session.get_one(GenerationRow, 1)).value = 7
    await database.migrate()
    assert await generation(database) == 7


async def test_deployments_keep_their_environments_when_those_get_names(database):
    """Down to the numbers and up again; what has no number is left out on the way down."""
    rows = [("a", "staging"), ("b", "production"), ("c", "canary")]
    insert = text(
        "INSERT INTO deployments (deployment_id, model_name, version, environment, state, message, actor, reason, job_id,"
        " runtime, alias_mirrored, previous_deployment_id, create_time)"
        " VALUES (:id, 'm', 1, :environment, 2, '', '', '', 'j', 0, :no, '', CURRENT_TIMESTAMP)"
    )
    job = text(
        "INSERT INTO jobs (job_id, kind, pipeline, state, experiment_name, conf, submitted_by, message, create_time)"
        " VALUES ('j', 2, '', 3, '', '{}', '', '', CURRENT_TIMESTAMP)"
    )
    found = []

    def down_and_up(connection):
        for move, revision in ((command.downgrade, "0004"), (command.upgrade, "head")):
            config = run._config()
            config.attributes["connection"] = connection
            move(config, revision)
            found.append({*connection.execute(text("SELECT deployment_id, environment FROM deployments")).all()})

    async with database.engine.begin() as connection:
        await connection.execute(job)
        for deployment_id, environment in rows:
            await connection.execute(insert, {"id": deployment_id, "environment": environment, "no": False})
        await connection.run_sync(down_and_up)
    assert found == [{("a", 1), ("b", 2)}, {("a", "staging"), ("b", "production")}]


def migrate_in_a_process(url):
    async def migrate():
        database = Database(url=url)
        await database.open()
        await database.migrate()
        await database.close()

    asyncio.run(migrate())


async def test_several_processes_may_migrate_at_once(store_url):
    """Servers that start together on an empty database all start."""
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        await asyncio.to_thread(pool.map, migrate_in_a_process, [store_url] * 3)
    database = Database(url=store_url)
    await database.open()
    assert await generation(database) == 0
    await database.close()


async def test_a_block_that_raises_leaves_nothing(database):
    """What was written before an exception is rolled back."""

    async def write_and_fail():
        async with database.session() as session:
            (await session.get_one(GenerationRow, 1)).value = 7
            await session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await write_and_fail()
    assert await generation(database) == 0


async def test_writers_wait_for_each_other(database):
    """Many transactions that write at once all succeed, and none is lost."""

    async def count_up():
        async with database.session() as session:
            await session.execute(text("UPDATE generation SET value = value + 1"))

    await asyncio.gather(*(count_up() for _ in range(50)))
    assert await generation(database) == 50


async def test_a_broken_constraint_is_not_a_broken_database(database):
    """An IntegrityError stays itself, for the code that counts on it."""

    async def insert_twice():
        async with database.session() as session:
            await session.execute(text("INSERT INTO generation VALUES (1, 1)"))

    with pytest.raises(IntegrityError):
        await insert_twice()


async def test_a_value_that_does_not_fit_is_not_a_broken_database(postgres_url):
    """It never fits, so nobody is asked to try again. SQLite stores whatever it is given."""

    async def write_too_much(database):
        async with database.session() as session:
            await session.execute(update(GenerationRow).values(value=2**31))

    async with opened_store(postgres_url) as opened:
        with pytest.raises(DataError):
            await write_too_much(opened)


@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
async def test_a_database_that_is_away_is_unavailable(backend, tmp_path):
    """A database that cannot be opened is told as one that does not answer, without its driver's words."""
    nobody_listens = f"postgresql+psycopg://user:secret@127.0.0.1:{free_port()}/x"
    database = Database(url=sqlite_url(tmp_path / "no/such/folder") if backend == "sqlite" else nobody_listens)
    await database.open()
    for work in (database.probe(), database.migrate()):
        with pytest.raises(PlatformError) as caught:
            await work
        error = caught.value
        assert (error.reason_name, error.message) == ("BACKEND_UNAVAILABLE", "The platform's own database does not answer.")
    await database.close()
    # The driver's threads outlive a connection that could not be made by a moment; they must not outlive the test's event loop.
    for thread in threading.enumerate():
        if "_connection_worker_thread" in thread.name:
            await asyncio.to_thread(thread.join, 5)


async def test_a_database_that_is_there_is_well(database):
    """The probe of a database that answers returns."""
    assert await database.probe() is None


async def test_a_store_whose_file_was_removed_is_unavailable(sqlite_database, tmp_path):
    """SQLite would go on with the file that it has open, and lose what is written; no empty file takes its place."""
    (tmp_path / "store.db").rename(tmp_path / "elsewhere.db")
    for _ in range(3):
        with pytest.raises(PlatformError, match="does not answer"):
            await sqlite_database.probe()
    assert not (tmp_path / "store.db").exists()


async def test_a_store_whose_file_was_replaced_is_read_anew(sqlite_database, tmp_path):
    """A backup that is put in the store's place is what counts from then on."""
    (tmp_path / "backup").mkdir()
    async with opened_database(tmp_path / "backup") as other, other.session() as session:
        (await session.get_one(GenerationRow, 1)).value = 7
    assert await generation(sqlite_database) == 0
    for leftover in tmp_path.glob("store.db-*"):
        leftover.unlink()
    (tmp_path / "backup" / "store.db").replace(tmp_path / "store.db")
    assert await generation(sqlite_database) == 7


async def test_an_empty_database_is_no_store(store_url, tmp_path):
    """A database without the platform's tables answers, but is not well."""
    (tmp_path / "store.db").touch()  # SQLite's.
    database = Database(url=store_url)
    await database.open()
    with pytest.raises(PlatformError, match="does not answer"):
        await database.probe()
    with pytest.raises(ValueError, match="db upgrade"):
        await database.require_tables()
    await database.close()


@pytest.mark.parametrize("url", ["garbage", "sqlite:///no.asyncio", "nosuchdatabase://user:secret@host/x"])
async def test_a_url_that_names_no_database_is_the_operators_mistake(url):
    """It is told in a line, which names the setting and no secret."""
    with pytest.raises(ValueError, match="ML_PLATFORM_STORE__URL") as caught:
        await Database(url=url).open()
    assert "secret" not in str(caught.value)


async def test_a_cancelled_transaction_ends_in_order(database, caplog):
    """Whenever the cancellation comes, even twice, the transaction is done or undone, and no log tells of it."""
    done = 0

    async def count_up():
        async with database.session() as session:
            await session.execute(update(GenerationRow).values(value=GenerationRow.value + 1))

    for turns in range(40):
        task = asyncio.create_task(count_up())
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        done += not task.cancelled()
    assert done <= await generation(database) <= 40
    assert [record.getMessage() for record in caplog.records] == []


def test_a_path_that_cannot_be_opened_is_told_without_a_traceback(tmp_path):
    """A process that stops because of it prints what it has to say and nothing else."""
    script = f"""
import asyncio
from ml_platform_server.errors import PlatformError
from ml_platform_server.store.database import Database

async def main():
    database = Database(url="sqlite+aiosqlite:///{tmp_path}/nowhere/store.db")
    await database.open()
    try:
        await database.migrate()
    except PlatformError as error:
        print(error.reason_name)
    await database.close()

asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ended.stdout.splitlines()[-1], ended.stderr) == ("BACKEND_UNAVAILABLE", "")
