"""The platform's own database: its connections, its transactions and its migrations."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import structlog
from sqlalchemy import Engine, event, text
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, DisconnectionError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.start import StartupError
from ml_platform_server.store.sessions import Session

_log = structlog.get_logger(__name__)


class Database:
    """SQLite or PostgreSQL behind one URL with an asyncio driver.

    A transaction sees what others commit meanwhile (READ COMMITTED, or nothing stricter in SQLite, where it begins with the first
    write): make changes conditional in the statement itself (`UPDATE ... WHERE state = ...`) and look at the row count.

    Args:
        url: an SQLAlchemy URL, "sqlite+aiosqlite:///path" or "postgresql+psycopg://...".

    Raises:
        ValueError: the URL is none.
    """

    def __init__(self, *, url: str) -> None:
        try:
            self._url = make_url(url)
        except (SQLAlchemyError, ValueError) as error:
            raise _unusable(error) from None
        self._engine: AsyncEngine | None = None
        self._sessions: async_sessionmaker[Session] | None = None

    async def open(self) -> None:
        """Make the connection pool. Connections are made when they are first needed.

        Raises:
            ValueError: the URL's driver is not installed, or is none for asyncio.
        """
        try:
            self._engine = create_async_engine(self._url, pool_pre_ping=not self._is_sqlite)
        except (SQLAlchemyError, ImportError) as error:
            raise _unusable(error) from None
        if self._is_sqlite:
            event.listen(self._engine.sync_engine, "connect", _configure_sqlite)
        if self._file is not None:
            _watch_file(self._engine.sync_engine, self._file)
        self._sessions = async_sessionmaker(self._engine, class_=Session, expire_on_commit=False)

    async def close(self) -> None:
        """Close every connection."""
        if self._engine is not None:
            await self._engine.dispose()

    async def migrate(self) -> None:
        """Bring the tables up to date. Several processes may do this at once: one does the work, the others wait for it."""
        # Alembic takes a while to import, and only this needs it.
        from ml_platform_server.store.migrations.run import upgrade  # noqa: PLC0415

        with _translated():
            if self._file is not None:
                # A thread of aiosqlite's that cannot open its file prints a traceback when the process ends.
                await asyncio.to_thread(_try_file, self._file)
            async with self.engine.begin() as connection:
                await connection.run_sync(upgrade)

    async def require_tables(self) -> None:
        """Make sure that the store exists and its tables are up to date, and change nothing.

        Raises:
            ValueError: they are not.
            PlatformError: BACKEND_UNAVAILABLE when the database does not answer.
        """
        from ml_platform_server.store.migrations.run import is_current  # noqa: PLC0415  # as above

        if self._file is not None and not self._file.exists():
            raise ValueError(
                f"There is no store at {self._file.resolve()}. Set ML_PLATFORM_STORE__URL to the server's, "
                "or create one with 'ml-platform-server db upgrade'."
            )
        with _translated():
            async with self.engine.connect() as connection:
                if not await connection.run_sync(is_current):
                    raise ValueError(
                        "The store's tables are not those of this version. Update them with 'ml-platform-server db upgrade'."
                    )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[AsyncSession]:
        """A session in a transaction, which is committed at the end of the block and rolled back if the block raises.

        A call that is cancelled meanwhile waits until the statement that it began is done, and then rolls back.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE when the database does not answer.
            sqlalchemy.exc.IntegrityError: a constraint was broken.
            sqlalchemy.exc.DataError: a value does not fit its column.
        """
        if self._sessions is None:
            raise RuntimeError("The database is not open.")
        with _translated():
            session = self._sessions()
            try:
                yield session
                await session.commit()
            except BaseException:
                await session.rollback()
                raise
            finally:
                await session.close()

    async def probe(self) -> None:
        """Read a table that every migrated store has.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE.
        """
        async with self.session() as session:
            await session.execute(text("SELECT 1 FROM alembic_version"))

    @property
    def engine(self) -> AsyncEngine:
        """The engine, for migrations and tests."""
        if self._engine is None:
            raise RuntimeError("The database is not open.")
        return self._engine

    @property
    def _file(self) -> Path | None:
        """SQLite's file. None for PostgreSQL, for a URI and for a database in memory."""
        path = self._url.database or ""
        return Path(path) if self._is_sqlite and path and not path.startswith((":", "file:")) else None

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"


class MigratedDatabase(Database):
    """The database, its tables up to date once it is open."""

    async def open(self) -> None:
        """Open it and bring the tables up to date; StartupError if it does not answer."""
        await super().open()
        try:
            await self.migrate()
        except PlatformError as error:
            raise StartupError(f"{error.message} ML_PLATFORM_STORE__URL says where it is.") from None


@contextmanager
def _translated() -> Iterator[None]:
    """Tell a database that fails from one that refuses: a value that it does not store is no reason to try again."""
    try:
        yield
    except (IntegrityError, DataError):
        raise
    except (DBAPIError, PoolTimeout, OSError) as error:
        _log.warning("database_error", error=str(error))
        raise PlatformError(
            errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
            "The platform's own database does not answer.",
            remedy="Try again shortly. If it goes on, look at the database (PlatformService.GetHealth tells how it is).",
            retry_after=2.0,
            metadata={"backend": "store"},
        ) from None


def _unusable(error: Exception) -> ValueError:
    return ValueError(f"ML_PLATFORM_STORE__URL names no database that can be used here: {error}")


def _try_file(path: Path) -> None:
    """Open SQLite's file, or raise OSError."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}") from None


def _watch_file(engine: Engine, path: Path) -> None:
    """Begin no transaction on a file that was removed or replaced: what it wrote would be lost.

    SQLite itself goes on with the file that it has open, and creates one that is not there.
    """

    def require(*_arguments: object) -> None:
        path.stat()

    def note(_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = _identity(path)

    def check(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        if _identity(path) != record.info["file"]:
            raise DisconnectionError(f"{path} was replaced")  # The pool opens the new file.

    event.listen(engine, "do_connect", require)
    event.listen(engine, "connect", note)
    event.listen(engine, "checkout", check)


def _identity(path: Path) -> tuple[int, int]:
    """What identifies a file among others of the same name. Raises OSError if there is none."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _configure_sqlite(connection: DBAPIConnection, _record: object) -> None:
    """Readers do not wait for the writer, writers wait for each other, and foreign keys count."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "busy_timeout=5000", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
