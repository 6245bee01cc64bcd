"""What dies is started again, with a backoff; what was stopped on purpose is not."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from deploy.local import processes, supervisor
from deploy.local.config import ROOT, StackConfig
from deploy.local.layout import Layout, Service
from deploy.local.progress import Progress
from deploy.local.stack import Stack
from deploy.local.state import ProcessRecord, Record, StateFolder
from deploy.local.supervisor import Supervisor, backoff

PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).wait()"


def describe(_layout: Layout | None = None, *, folder: Path, code: str = PARENT) -> dict[str, Service]:
    def service(name: str) -> Service:
        command = (sys.executable, "-c", code)
        return Service(name=name, command=command, probe=lambda: None, folder=folder, environment=lambda: os.environ)

    return {name: service(name) for name in ("mlflow", "airflow", "airflow-scheduler")}


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(
        tmp_path,
        progress=Progress(io.StringIO()),
        describe=lambda layout: describe(layout, folder=tmp_path),
        prepare=lambda *_arguments, **_options: [],
        supervised=False,
    )
    stack.up(StackConfig(state=tmp_path, ports={"mlflow": 0, "airflow": 0}))
    yield stack
    stack.down()


@pytest.fixture
def looking(stack: Stack, tmp_path: Path, clock: Clock) -> Supervisor:
    return Supervisor(stack.state, lambda: describe(folder=tmp_path), clock=clock)


def record(stack: Stack, name: str = "mlflow") -> ProcessRecord:
    return stack.state.read().services[name]


def kill(stack: Stack, name: str = "mlflow") -> None:
    process = psutil.Process(record(stack, name).pid)
    process.kill()
    process.wait(20)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_was_killed_is_started_again_without_what_it_left_behind(stack: Stack, looking: Supervisor) -> None:
    """The children of a killed process end, the next process runs, and the record counts the restart."""
    until(lambda: len(processes.marked(stack.state, "mlflow")) == 2)
    before, children = record(stack), psutil.Process(record(stack).pid).children()
    kill(stack)
    assert looking.look() == ["mlflow"]
    after = record(stack)
    assert (after.restarts, processes.is_alive(after), after.pid == before.pid) == (1, True, False)
    assert not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)


def test_what_is_well_is_left_alone(stack: Stack, looking: Supervisor) -> None:
    """A look at a stack that runs changes nothing."""
    before = stack.state.read()
    assert looking.look() == []
    assert stack.state.read() == before


def test_what_dies_again_waits_longer_each_time(stack: Stack, looking: Supervisor, clock: Clock) -> None:
    """The first restart comes at once, the next after 2, 4, 8 s from the start before; after a minute of life at once again."""
    for failures in range(4):
        kill(stack)
        wait = backoff(record(stack))
        assert wait == (2.0**failures if failures else 0.0)
        clock.now = record(stack).start_time + wait / 2
        assert looking.look() == ([] if wait else ["mlflow"])
        clock.now = record(stack).start_time + wait
        assert looking.look() == (["mlflow"] if wait else [])
        assert (record(stack).failures, record(stack).restarts) == (failures + 1, failures + 1)
    kill(stack)
    clock.now = record(stack).start_time + supervisor.STEADY
    assert looking.look() == ["mlflow"]
    assert (record(stack).failures, record(stack).restarts) == (1, 5)


def test_a_clock_that_was_set_back_holds_nothing_up(stack: Stack, looking: Supervisor, clock: Clock) -> None:
    """What died is started again though its last start lies in the future."""
    kill(stack)
    clock.now = record(stack).start_time - 3600
    assert looking.look() == ["mlflow"]


def test_the_backoff_has_an_end() -> None:
    """A service that has failed for days is still tried twice a minute."""
    assert backoff(ProcessRecord(1, 1.0, failures=100_000)) == supervisor.LONGEST


def test_what_was_stopped_on_purpose_stays_so(stack: Stack, looking: Supervisor) -> None:
    """All parts of a service are stopped, even where they were killed, and start again when somebody asks for it."""
    stack.stop("airflow", grace=0.0)
    assert looking.look() == []
    stopped = [(each.name, each.trouble) for each in stack.status() if each.trouble]
    assert stopped == [("airflow", "was stopped"), ("airflow-scheduler", "was stopped")]
    stack.start("airflow")
    assert [each.trouble for each in stack.status()] == ["", "", ""]


def test_nothing_is_started_while_another_command_is_at_work(stack: Stack, looking: Supervisor) -> None:
    """An end that is under way is not crossed by a restart."""
    kill(stack)
    with stack.state.locked():
        assert looking.look() == []
    assert looking.look() == ["mlflow"]


def test_a_stack_that_is_not_ready_is_its_starters(stack: Stack, looking: Supervisor) -> None:
    """What dies during a start is that start's failure."""
    stack.state.amend(lambda written: setattr(written, "ready", False))
    kill(stack)
    assert looking.look() == []


def test_what_the_supervisor_started_outlives_it(stack: Stack, tmp_path: Path) -> None:
    """Ending the supervisor ends none of its children that are services, and ending the stack ends them."""
    child = f"""
import sys, time
from pathlib import Path
from deploy.local import processes
from deploy.local.state import StateFolder
import os
process = processes.spawn(
    "bentoml", [sys.executable, "-c", "import time; time.sleep(60)"],
    state=StateFolder(Path({str(tmp_path)!r})), environment=os.environ, folder=Path("."))
print(process.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, **processes.marks(stack.state, supervisor.NAME)}
    with subprocess.Popen([sys.executable, "-c", child], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert processes.end(stack.state, supervisor.NAME) == 1
    assert psutil.Process(pid).is_running()
    stack.down()
    assert processes.marked(stack.state) == []


def test_the_supervisor_ends_with_the_stack_and_with_its_successor(tmp_path: Path) -> None:
    """It is not the supervisor of a stack that has ended, or that has another one."""
    state = StateFolder(tmp_path)
    for services in ({}, {supervisor.NAME: ProcessRecord(pid=1, create_time=0.0)}):
        state.write(Record(ports={}, ready=True, services=services))
        if not services:
            state.forget()
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.local", "--state", str(tmp_path), "supervise"], cwd=ROOT, timeout=60, check=False
        )
        assert ended.returncode == 0
