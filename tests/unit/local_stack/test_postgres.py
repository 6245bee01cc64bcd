"""PostgreSQL as the local stack runs it: made once, closed to others, back after a crash, also when run by root."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterator

import psutil
import psycopg
import pytest

from deploy.local.config import DEFAULT_PORTS, StackConfig
from deploy.local.progress import Progress
from deploy.local.services import postgres
from deploy.local.stack import Stack
from tests.support.postgres import postgres_alone, prepare_postgres


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of PostgreSQL alone, in a folder that nobody else may enter."""
    folder = tmp_path_factory.mktemp("stack with a space")
    stack = Stack(folder, progress=Progress(io.StringIO()), describe=postgres_alone, prepare=prepare_postgres, supervised=False)
    stack.up(StackConfig(state=folder, ports=dict.fromkeys(DEFAULT_PORTS, 0)))
    yield stack
    stack.down()


def connected(stack: Stack, database: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(postgres.url(stack.layout(), database).replace("+psycopg", "", 1), connect_timeout=20)


def test_each_service_has_a_database(stack: Stack) -> None:
    """The addresses that services get work as they are."""
    for database in postgres.DATABASES:
        with connected(stack, database) as connection:
            assert connection.execute("SELECT current_database()").fetchone() == (database,)


def test_nobody_gets_in_without_the_password(stack: Stack) -> None:
    """Another user of the machine reaches the port, and is refused; no command line and no address shows the password."""
    port = stack.layout().addresses.ports["postgres"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host="127.0.0.1", port=port, user=postgres.USER, dbname="platform", password="guessed")
    password = stack.layout().credentials.postgres_password
    assert password not in postgres.url(stack.layout(), "platform")
    assert password not in " ".join(psutil.Process(stack.state.read().services["postgres"].pid).cmdline())
    for name in ("pgpass", "password"):
        assert (stack.state.path / "postgres" / name).stat().st_mode & 0o077 == 0


def test_it_listens_on_the_loopback_interface_alone(stack: Stack) -> None:
    """No other interface, and no socket in a folder that others may enter."""
    process = psutil.Process(stack.state.read().services["postgres"].pid)
    assert {each.laddr.ip for each in process.net_connections(kind="tcp")} == {"127.0.0.1"}
    assert [each for each in process.net_connections(kind="unix") if each.laddr] == []


def test_it_comes_back_after_a_crash_with_what_was_written(stack: Stack) -> None:
    """A start after a kill recovers the data, and makes neither them nor the databases anew."""
    with connected(stack, "platform") as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    stack.stop("postgres", grace=0.0)
    stack.start("postgres")
    with connected(stack, "platform") as connection:
        assert connection.execute("SELECT value FROM kept").fetchone() == (7,)


@pytest.mark.parametrize("holder", ["true", "sleep"])
def test_a_lock_of_a_killed_server_holds_nothing_up(stack: Stack, holder: str) -> None:
    """The number in the lock may still exist: of a process whose end nobody took note of, or of a program that got it since."""
    stack.stop("postgres", grace=0.0)
    lock = postgres.data(stack.layout()) / "postmaster.pid"
    with subprocess.Popen([holder, "600"], user=lock.stat().st_uid) as other:
        if holder == "true":
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        _, _, rest = lock.read_text().partition("\n")
        lock.write_text(f"{other.pid}\n{rest}")
        stack.start("postgres", timeout=60.0)
        other.kill()
    with connected(stack, "platform") as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
