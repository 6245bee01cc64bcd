"""One stack: brings everything up, ends it, and says how each service is."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deploy.local import credentials, environment, logs, ports, preparation, processes, services
from deploy.local.config import Addresses, StackConfig
from deploy.local.errors import AlreadyRunningError, NotRunningError, StackError
from deploy.local.interrupts import undisturbed
from deploy.local.launch import Step, launch
from deploy.local.layout import Layout, Service
from deploy.local.progress import Progress
from deploy.local.state import Record, StateFolder

POLL = 0.3  # Seconds between two looks at a service that starts.


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is; `trouble` is empty when it is well."""

    name: str
    address: str
    pid: int | None
    trouble: str


class Stack:
    """The stack in one state folder. Several commands may use it one after another; the record in the folder joins them.

    Args:
        state: the folder; made when it is needed.
        progress: who is told how a start goes.
        describe: what gives the services.
        prepare: what gives the other steps of a start.
    """

    def __init__(
        self,
        state: Path,
        *,
        progress: Progress | None = None,
        describe: Callable[[Layout], Mapping[str, Service]] = services.build,
        prepare: Callable[..., list[Step]] = preparation.steps,
    ) -> None:
        self.state = StateFolder(state)
        self._describe = describe
        self._prepare = prepare
        self._progress = progress or Progress()
        self._cancelled = threading.Event()
        self._recording = threading.Lock()

    def up(self, config: StackConfig) -> None:
        """Start everything and wait until it serves. If anything goes wrong, end what was started.

        Raises:
            AlreadyRunningError: if it runs and is well.
            StackError: saying what went wrong and what to do.
        """
        with self.state.locked():
            self._refuse_second()
            record = Record(
                ports=ports.choose(config.ports),
                dag_folders=[str(folder) for folder in config.dag_folders],
                feast=str(config.feast) if config.feast else None,
                data_folders=[str(folder) for folder in config.data_folders],
            )
            ports.check(record.ports)
            self._progress.say(f"Starting the stack in {self.state.path}")
            logs.set_aside(self.state)
            try:
                self.state.write(record)
                launch(self._steps(record, config.timeout), progress=self._progress, cancelled=self._cancelled)
                self._amend(lambda written: setattr(written, "ready", True))
            except BaseException:
                self._progress.say("Ending what was started.")
                self._end_all()
                raise

    def down(self) -> int:
        """End everything, whatever state it is in, and tell how many processes that were. Nothing to end is fine."""
        if not self.state.path.exists():
            return 0
        with self.state.locked():
            return self._end_all()

    def clean(self) -> None:
        """End everything and remove the state folder."""
        self.down()
        shutil.rmtree(self.state.path, ignore_errors=True)

    def start(self, name: str, *, timeout: float = 300.0) -> None:
        """Start one service of a stack that runs, and wait until it is well."""
        self._start(self._describe(self.layout())[name], timeout)

    def stop(self, name: str, *, grace: float = processes.GRACE) -> None:
        """End one service of a stack that runs; without a grace it is killed, as a crash would."""
        processes.end(self.state, name, grace=grace)

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
        return [_status_of(service, record) for service in self._describe(self.layout(record)).values()]

    def exports(self) -> dict[str, str]:
        """Give the variables that a person's scripts need."""
        layout = self.layout()
        return environment.for_users(
            layout.addresses, state=self.state.path, feature_store=layout.feature_store, api_key=layout.credentials.api_key
        )

    def create_key(self, principal: str, scopes: list[str]) -> str:
        """Make a further API key."""
        return preparation.Preparation(self.layout(), timeout=60.0, cancelled=self._cancelled).create_key(principal, scopes)

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

    def _refuse_second(self) -> None:
        """Say what is there already, if anything is."""
        left = processes.marked(self.state)
        if not left:
            return
        advice = "End it with `make down`, then start it again."
        try:
            record = self.state.read()
        except NotRunningError:
            record = None
        if not record or not record.ready:
            raise StackError(f"An interrupted start in {self.state.path} left {len(left)} processes behind. {advice}")
        if troubles := [f"{each.name}: {each.trouble}" for each in self.status() if each.trouble]:
            raise StackError(f"The stack in {self.state.path} runs only in part ({'; '.join(troubles)}). {advice}")
        raise AlreadyRunningError(f"The stack in {self.state.path} is already running.")

    def _steps(self, record: Record, timeout: float) -> list[Step]:
        layout = self.layout(record)
        described = self._describe(layout)
        steps = self._prepare(layout, timeout=timeout, progress=self._progress, cancelled=self._cancelled)
        present = {*described, *(step.name for step in steps)}
        for service in described.values():
            needs = tuple(name for name in service.needs if name in present)
            run = partial(self._start, service, timeout)
            steps.append(Step(service.name, run, needs, tells=layout.addresses.address(service.name)))
        return steps

    def _start(self, service: Service, timeout: float) -> None:
        """Start a service and wait until it is well, or until nobody waits any more."""
        if self._cancelled.is_set():
            return
        process = processes.spawn(
            service.name, service.command, state=self.state, environment=service.environment(), folder=service.folder
        )
        self._amend(lambda record: record.services.update({service.name: process}))
        deadline = time.monotonic() + timeout
        while trouble := service.probe():
            if not processes.is_alive(process):
                raise logs.blame(self.state, service.name, "ended instead of starting")
            if time.monotonic() > deadline:
                raise logs.blame(self.state, service.name, f"is not well after {timeout:.0f} s: it {trouble}")
            if self._cancelled.wait(POLL):
                return

    def _amend(self, change: Callable[[Record], object]) -> None:
        with self._recording:
            record = self.state.read()
            change(record)
            self.state.write(record)

    def _end_all(self) -> int:
        with undisturbed():
            # The server first: what it still answers, it answers with everything behind it alive.
            count = processes.end(self.state, "server") + processes.end(self.state)
            self.state.forget()
            return count


def _status_of(service: Service, record: Record) -> ServiceStatus:
    known = record.services.get(service.name)
    alive = known is not None and processes.is_alive(known)
    trouble = (service.probe() or "") if alive else "gone" if known else "was never started"
    address = Addresses(record.ports).address(service.name)
    return ServiceStatus(name=service.name, address=address, pid=known.pid if known and alive else None, trouble=trouble)
