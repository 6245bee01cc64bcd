"""One stack: brings everything up, ends it, and says how each service is."""

from __future__ import annotations

import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from deploy.local import credentials, environment, logs, ports, preparation, processes, services, statuses, supervisor
from deploy.local.config import ROOT, Addresses, StackConfig
from deploy.local.errors import AlreadyRunningError, NotRunningError, StackError
from deploy.local.interrupts import undisturbed
from deploy.local.launch import Step, launch
from deploy.local.layout import Layout, Service
from deploy.local.progress import Progress
from deploy.local.services import server
from deploy.local.state import Record, StateFolder
from deploy.local.statuses import ServiceStatus
from deploy.local.supervisor import Supervisor

POLL = 0.3  # Seconds between two looks at a service that starts.
MENDING = 60.0  # Seconds that a service which runs has to become well, before it is started anew.


class Stack:
    """The stack in one state folder. Several commands may use it one after another; the record in the folder joins them.

    Args:
        state: the folder; made when it is needed.
        progress: who is told how a start goes.
        describe: what gives the services.
        prepare: what gives the other steps of a start.
        supervised: whether a process of its own starts again what dies.
    """

    def __init__(
        self,
        state: Path,
        *,
        progress: Progress | None = None,
        describe: Callable[[Layout], Mapping[str, Service]] = services.build,
        prepare: Callable[..., list[Step]] = preparation.steps,
        supervised: bool = True,
    ) -> None:
        self.state = StateFolder(state)
        self._describe = describe
        self._prepare = prepare
        self._supervised = supervised
        self._progress = progress or Progress()
        self._cancelled = threading.Event()

    def up(self, config: StackConfig) -> bool:
        """Start everything that does not run, and wait until it serves. Tell whether the stack was up before, in part.

        If a first start goes wrong, what it started is ended.

        Raises:
            AlreadyRunningError: if it runs and is well.
            StackError: saying what went wrong and what to do.
        """
        with self.state.locked():
            record = self._existing(config)
            if record is None:
                self._first_start(config)
                return False
            self._heal(record, config.timeout)
            return record.ready

    def down(self) -> int:
        """End everything, whatever state it is in, and tell how many processes that were. Nothing to end is fine."""
        if not self.state.path.exists():
            return self._end_all()  # The folder may have been removed under a stack that runs.
        with self.state.locked():
            return self._end_all()

    def clean(self) -> None:
        """End everything and remove the state folder."""
        self.down()
        shutil.rmtree(self.state.path, ignore_errors=True)

    def start(self, name: str, *, timeout: float = 300.0) -> None:
        """Start one service of a stack that runs, with all its parts, and wait until it is well."""
        for part in self._parts(name):
            self._start(part, timeout)

    def stop(self, name: str, *, grace: float = processes.GRACE) -> None:
        """End one service of a stack that runs, with all its parts, until it is started; without a grace as a crash would."""
        parts = self._parts(name)

        def hold(record: Record) -> None:
            for part in parts:
                if part.name in record.services:
                    record.services[part.name].held = True

        self.state.amend(hold)
        processes.end(self.state, *(part.name for part in parts), grace=grace, ask=parts[0].end_with)

    def status(self) -> list[ServiceStatus]:
        """Ask every service how it is.

        Raises:
            NotRunningError: if nothing was started, or nothing is left of it.
        """
        record = self.state.read()
        if not processes.marked(self.state):
            raise NotRunningError(
                f"Nothing is left of the stack in {self.state.path}, though nobody ended it. Start it again with `make up`."
            )
        described = list(self._services(record).values())
        with ThreadPoolExecutor(len(described)) as pool:
            found = list(pool.map(lambda service: statuses.of_service(service, record, self.state), described))
        return [*found, statuses.of_supervisor(record)] if self._supervised else found

    def exports(self) -> dict[str, str]:
        """Give the variables that a person's scripts need."""
        layout = self.layout()
        return environment.for_users(
            layout.addresses,
            state=self.state.path,
            feature_store=layout.feature_store,
            api_key=layout.credentials.api_key,
            store=server.store(layout),
        )

    def create_key(self, principal: str, scopes: list[str]) -> str:
        """Make a further API key."""
        self.state.log("key").unlink(missing_ok=True)
        prepare = preparation.Preparation(self.layout(), timeout=60.0, cancelled=self._cancelled)
        return prepare.create_key(principal, scopes, log="key")

    def layout(self, record: Record | None = None) -> Layout:
        """Give what the services share, as it was recorded. Raises NotRunningError if nothing was started."""
        record = record or self.state.read()
        return Layout(
            state=self.state,
            addresses=Addresses(record.ports),
            credentials=credentials.load(self.state.credentials),
            dag_folders=preparation.dag_folders([Path(folder) for folder in record.dag_folders]),
            feature_store=Path(record.feast) if record.feast else self.state.feature_store,
            data_folders=tuple(Path(folder) for folder in record.data_folders),
        )

    def supervise(self) -> None:
        """Start again what dies, until the stack ends."""
        Supervisor(self.state, lambda: self._services(self.state.read())).run()

    def _services(self, record: Record) -> Mapping[str, Service]:
        try:
            return self._describe(self.layout(record))
        except KeyError as missing:
            raise StackError(
                f"The stack in {self.state.path} was started by another version, which has no {missing}. `make down` ends it."
            ) from None

    def _parts(self, name: str) -> list[Service]:
        described = self._services(self.state.read())
        return [each for each in described.values() if each.name == name or each.name.startswith(f"{name}-")]

    def _existing(self, config: StackConfig) -> Record | None:
        """Give the record of what runs, if anything does and this start may build on it."""
        left = processes.marked(self.state)
        if not left:
            return None
        try:
            record = self.state.read()
        except NotRunningError:
            self._progress.say(f"Ending {len(left)} processes that an earlier start left behind.")
            self._end_all()
            return None
        if not _is_asked_for(record, config):
            raise StackError(
                f"The stack in {self.state.path} runs with other ports, DAGS, DATA or FEAST than asked for now. "
                "`make down` first, then start it again."
            )
        troubles = [f"{each.name} {each.trouble}" for each in self.status() if each.trouble]
        if record.ready and not troubles:
            raise AlreadyRunningError(f"The stack in {self.state.path} is already running.")
        self._progress.say(f"Healing the stack in {self.state.path}: {'; '.join(troubles) or 'its start was interrupted'}")
        return record

    def _first_start(self, config: StackConfig) -> None:
        record = Record(
            ports=ports.choose(config.ports),
            dag_folders=[str(folder) for folder in config.dag_folders],
            feast=str(config.feast) if config.feast else None,
            data_folders=[str(folder) for folder in config.data_folders],
        )
        ports.check(record.ports)
        self._progress.say(f"Starting the stack in {self.state.path}")
        if (self.state.path / "mlflow" / "mlflow.db").exists():
            self._progress.say("  The records of an earlier version, in SQLite, are not taken over; `make clean` removes them.")
        logs.set_aside(self.state)
        try:
            self.state.write(record)
            steps = [*self._preparations(record, config.timeout), *self._service_steps(record, config.timeout, self._start)]
            self._launch(steps)
        except BaseException:
            self._progress.say("Ending what was started.")
            self._end_all()
            raise

    def _heal(self, record: Record, timeout: float) -> None:
        """Start what is missing beside what runs."""
        steps = self._service_steps(record, timeout, self._mend)
        if not record.ready:
            steps = [*self._preparations(record, timeout), *steps]
        try:
            self._launch(steps)
        except StackError as error:
            raise StackError(f"{error}\nThe rest runs on. `make status` tells how it is, `make down` ends it.") from None

    def _launch(self, steps: list[Step]) -> None:
        present = {step.name for step in steps}
        wanted = [replace(step, needs=tuple(name for name in step.needs if name in present)) for step in steps]
        launch(wanted, progress=self._progress, cancelled=self._cancelled)
        self.state.amend(lambda written: setattr(written, "ready", True))
        self._start_supervisor()

    def _preparations(self, record: Record, timeout: float) -> list[Step]:
        return self._prepare(self.layout(record), timeout=timeout, progress=self._progress, cancelled=self._cancelled)

    def _service_steps(self, record: Record, timeout: float, start: Callable[[Service, float], None]) -> list[Step]:
        described = self._services(record).values()
        return [Step(each.name, partial(start, each, timeout), each.needs, tells=each.address) for each in described]

    def _mend(self, service: Service, timeout: float) -> None:
        """Start a service unless it runs and is well, or becomes so in a while."""
        known = self.state.read().services.get(service.name)
        deadline = time.monotonic() + min(timeout, MENDING)
        while known and processes.is_alive(known):
            if not service.probe():
                return
            if self._cancelled.wait(POLL) or time.monotonic() > deadline:
                break
        processes.end(self.state, service.name, ask=service.end_with)
        if service.address:
            ports.check({service.name: int(service.address.rpartition(":")[2])})
        self._start(service, timeout)

    def _start(self, service: Service, timeout: float) -> None:
        """Start a service and wait until it is well, or until nobody waits any more."""
        if self._cancelled.is_set():
            return
        process = processes.spawn(
            service.name, service.command, state=self.state, environment=service.environment(), folder=service.folder
        )
        self.state.amend(lambda record: record.services.update({service.name: process}))
        deadline = time.monotonic() + timeout
        while trouble := service.probe():
            if not processes.is_alive(process):
                raise logs.blame(self.state, service.name, "ended instead of starting")
            if time.monotonic() > deadline:
                raise logs.blame(self.state, service.name, f"is not well after {timeout:.0f} s: it {trouble}")
            if self._cancelled.wait(POLL):
                return

    def _start_supervisor(self) -> None:
        """Start the supervisor if none is alive."""
        known = self.state.read().services.get(supervisor.NAME)
        if not self._supervised or (known and processes.is_alive(known)):
            return
        command = [sys.executable, "-m", "deploy.local", "--state", str(self.state.path), "supervise"]
        process = processes.spawn(supervisor.NAME, command, state=self.state, environment=environment.base(), folder=ROOT)
        self.state.amend(lambda record: record.services.update({supervisor.NAME: process}))

    def _end_all(self) -> int:
        with undisturbed():
            # First what would start things again, then the server: what it still answers, it answers with all behind it alive.
            # The database outlives those who write into it.
            count = sum(processes.end(self.state, name) for name in (supervisor.NAME, "server"))
            count += processes.end(self.state, spare="postgres")
            count += processes.end(self.state, "postgres", ask=signal.SIGINT) + processes.end(self.state)
            self.state.forget()
            return count


def _is_asked_for(record: Record, config: StackConfig) -> bool:
    """Whether what runs is what a person asks for now. What was not chosen may be as it is."""
    dags, data = ([str(folder) for folder in folders] for folders in (config.dag_folders, config.data_folders))
    feast = str(config.feast) if config.feast else None
    same_ports = all(config.ports[service] in (0, record.ports[service]) for service in config.chosen)
    same_folders = (not dags or record.dag_folders == dags) and (not data or record.data_folders == data)
    return same_ports and same_folders and feast in (None, record.feast)
