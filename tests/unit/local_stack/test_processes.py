"""Processes of a stack are found and ended whatever they did to get away."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local import processes
from deploy.local.state import ProcessRecord, Record, StateFolder

SLEEPER = "import time; time.sleep(60)"
# Starts a grandchild in a session of its own, whose parent ends at once: nobody's child, in nobody's group.
RUNAWAY = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEPER}"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateFolder]:
    """A state folder whose processes are ended after the test."""
    folder = StateFolder(tmp_path)
    yield folder
    processes.end(folder, grace=0.0)


def start(state: StateFolder, code: str, *, name: str = "mlflow") -> ProcessRecord:
    """Start a Python process as a service of the stack."""
    return processes.spawn(name, [sys.executable, "-c", code], state=state, environment=os.environ, folder=state.path)


def wait_until_logged(state: StateFolder, text: str) -> None:
    """Wait until a process has said something."""
    deadline = time.monotonic() + 20
    while text not in state.log("mlflow").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def wait_until_ended(record: ProcessRecord) -> None:
    """Wait until a process is gone."""
    deadline = time.monotonic() + 20
    while processes.is_alive(record):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_started_process_is_alive_and_found(state: StateFolder) -> None:
    """The process is found by its mark, with its service's name."""
    record = start(state, SLEEPER)
    assert processes.is_alive(record)
    assert [each.pid for each in processes.marked(state)] == [record.pid]
    assert [each.pid for each in processes.marked(state, "mlflow")] == [record.pid]
    assert processes.marked(state, "airflow") == []


def test_a_process_is_found_as_soon_as_it_was_started(state: StateFolder) -> None:
    """However early somebody looks."""
    for _ in range(40):
        record = start(state, SLEEPER)
        assert [each.pid for each in processes.marked(state)] == [record.pid]
        os.kill(record.pid, signal.SIGKILL)
        wait_until_ended(record)


def test_another_stacks_processes_are_left_alone(state: StateFolder, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two stacks on one machine do not see each other."""
    record = start(state, SLEEPER)
    assert processes.end(StateFolder(tmp_path_factory.mktemp("other"))) == 0
    assert processes.is_alive(record)


def test_ending_leaves_nothing_and_may_be_repeated(state: StateFolder) -> None:
    """All processes end, and ending them again finds nothing."""
    records = [start(state, SLEEPER), start(state, SLEEPER, name="airflow")]
    assert processes.end(state) == 2
    assert [processes.is_alive(record) for record in records] == [False, False]
    assert processes.end(state) == 0


def test_one_service_is_ended_alone(state: StateFolder) -> None:
    """The others go on."""
    ended, other = start(state, SLEEPER), start(state, SLEEPER, name="airflow")
    processes.end(state, "mlflow")
    assert (processes.is_alive(ended), processes.is_alive(other)) == (False, True)


def test_an_orphan_in_its_own_session_is_found(state: StateFolder) -> None:
    """A grandchild that has left session, group and parent behind is still ended."""
    parent = start(state, RUNAWAY)
    wait_until_ended(parent)
    (orphan,) = processes.marked(state)
    assert orphan.pid != parent.pid
    assert processes.end(state) == 1
    assert processes.marked(state) == []


def test_a_process_that_wiped_its_environment_is_found_by_the_record(state: StateFolder) -> None:
    """The record and the mark make up for each other."""
    wiped = f"import os, sys; os.execve(sys.executable, [sys.executable, '-c', \"print('bare', flush=True); {SLEEPER}\"], {{}})"
    record = start(state, wiped)
    wait_until_logged(state, "bare")
    assert processes.marked(state) == []
    state.write(Record(ports={}, services={"mlflow": record}))
    assert [each.pid for each in processes.marked(state)] == [record.pid]


def test_a_process_that_does_not_listen_is_killed(state: StateFolder) -> None:
    """Asking comes first; after the grace there is no asking."""
    record = start(state, STUBBORN)
    wait_until_logged(state, "deaf")
    assert processes.end(state, grace=0.2) == 1
    assert not processes.is_alive(record)


def test_a_later_process_with_the_same_id_is_another_one(state: StateFolder) -> None:
    """An id alone is not proof: the time of creation must agree."""
    record = start(state, SLEEPER)
    assert not processes.is_alive(ProcessRecord(pid=record.pid, create_time=record.create_time - 100))
