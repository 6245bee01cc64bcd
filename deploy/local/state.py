"""The state folder: where everything of one stack lies, and the record of what runs."""

from __future__ import annotations

import fcntl
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from deploy.local.errors import NotRunningError, StackError

LOCK_WAIT = 15.0  # Seconds.


@dataclass
class ProcessRecord:
    """The process that a service was started as; the time of its creation tells it from a later one with the same id.

    `start_time` is in seconds since 1970. `restarts` counts how often the supervisor started the service again, and `failures`
    how often in a row it did not last. A service that is `held` was stopped on purpose, and stays so.
    """

    pid: int
    create_time: float
    start_time: float = 0.0
    restarts: int = 0
    failures: int = 0
    held: bool = False


@dataclass
class Record:
    """What was started and how. `ready` turns true when all of it answered."""

    ports: dict[str, int]
    dag_folders: list[str] = field(default_factory=list)
    feast: str | None = None
    data_folders: list[str] = field(default_factory=list)
    ready: bool = False
    services: dict[str, ProcessRecord] = field(default_factory=dict)


class StateFolder:
    """One folder that holds the databases, logs, secrets and the record of one stack."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.logs = self.path / "logs"
        self.credentials = self.path / "credentials.json"
        self.feature_store = self.path / "feast" / "feature_store.yaml"
        self._record = self.path / "stack.json"
        self._lock = self.path / "lock"

    def folder(self, *parts: str) -> Path:
        """Give a folder inside, made if it is not there."""
        folder = self.path.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def log(self, name: str) -> Path:
        """Give the log file of a service or of a step."""
        return self.folder("logs") / f"{name}.log"

    @contextmanager
    def locked(self, *, wait: float = LOCK_WAIT) -> Iterator[None]:
        """Keep any other start or end of this stack out; the system lets go of the lock even if this process crashes.

        The supervisor has the lock for some seconds while it starts a service again, so a command waits for it a while.

        Raises:
            StackError: if another one is at work.
        """
        self.folder().chmod(0o700)  # Databases and configurations in it hold secrets.
        deadline = time.monotonic() + wait
        with self._lock.open("w") as file:
            while not _taken(file):
                if time.monotonic() >= deadline:
                    raise StackError(
                        f"The stack in {self.path} is just being started or ended by another command. "
                        "Wait for it, or interrupt it."
                    )
                time.sleep(0.1)
            yield

    def read(self) -> Record:
        """Read the record of what was started.

        Raises:
            NotRunningError: if there is none.
        """
        try:
            content = json.loads(self._record.read_text())
            services = {name: ProcessRecord(**each) for name, each in content.pop("services").items()}
            return Record(**content, services=services)
        except FileNotFoundError:
            raise NotRunningError(f"No stack runs in {self.path}. Start one with `make up`.") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise NotRunningError(f"{self._record} cannot be read. `make down` ends what it names.") from None

    def write(self, record: Record) -> None:
        """Replace the record in one step, so that a crash leaves the old one or the new one."""
        write_private(self._record, json.dumps(asdict(record), indent=2) + "\n")

    def amend(self, change: Callable[[Record], object]) -> None:
        """Change the record, one process at a time."""
        with (self.folder() / "stack.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            record = self.read()
            change(record)
            self.write(record)

    def forget(self) -> None:
        """Remove the record: nothing runs any more."""
        self._record.unlink(missing_ok=True)


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may write the same file at once.
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.draft")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
    draft.replace(path)
