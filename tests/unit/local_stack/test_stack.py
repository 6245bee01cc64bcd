"""What a stack says and does on good days and on bad ones, with small services in place of the real ones."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import probes, processes
from deploy.local import stack as local_stack
from deploy.local.config import StackConfig
from deploy.local.errors import AlreadyRunningError, NotRunningError, StackError
from deploy.local.launch import Step
from deploy.local.layout import Layout, Service
from deploy.local.progress import Progress
from deploy.local.stack import Stack

WEB = """
import http.server, sys
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""
# Its child answers, and goes on when the parent is killed.
FORKED = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {WEB!r}, sys.argv[1]]).wait()
"""
BROKEN = "import sys; sys.exit('the database is corrupt')"
MUTE = "import time; time.sleep(60)"
StackMaker = Callable[..., Stack]


def describe(**programs: str) -> Callable[[Layout], dict[str, Service]]:
    """Describe services that are short Python programs."""

    def build(layout: Layout) -> dict[str, Service]:
        def service(name: str, code: str) -> Service:
            port = layout.addresses.ports[name]
            return Service(
                name=name,
                command=(sys.executable, "-c", code, str(port)),
                probe=lambda: probes.http_ok(port, "/"),
                folder=layout.state.folder(name),
                environment=lambda: os.environ,
                address=layout.addresses.address(name),
            )

        return {name: service(name, code) for name, code in programs.items()}

    return build


@pytest.fixture
def make(tmp_path: Path) -> Iterator[StackMaker]:
    """A maker of stacks in one state folder, which are ended after the test."""

    def stack(steps: list[Step] | None = None, **programs: str) -> Stack:
        def prepare(_layout: Layout, **_rest: Any) -> list[Step]:
            return list(steps or [])

        progress = Progress(io.StringIO())
        return Stack(tmp_path, progress=progress, describe=describe(**programs), prepare=prepare, supervised=False)

    yield stack
    Stack(tmp_path, progress=Progress(io.StringIO())).down()


def kill(stack: Stack, name: str) -> None:
    """Kill the main process of a service, as the system would that lacks memory."""
    process = psutil.Process(stack.state.read().services[name].pid)
    process.kill()
    process.wait(20)


def config(stack: Stack, *names: str, timeout: float = 30.0) -> StackConfig:
    """Ask for free ports."""
    return StackConfig(state=stack.state.path, ports=dict.fromkeys(names, 0), timeout=timeout)


def test_after_a_start_everything_is_well_and_after_an_end_nothing_is_left(make: StackMaker) -> None:
    """A start returns when all services answer; an end leaves no process and may be repeated."""
    stack = make(mlflow=WEB, airflow=WEB)
    stack.up(config(stack, "mlflow", "airflow"))
    assert [(each.name, each.trouble) for each in stack.status()] == [("mlflow", ""), ("airflow", "")]
    assert (stack.down(), stack.down()) == (2, 0)
    assert processes.marked(stack.state) == []
    with pytest.raises(NotRunningError):
        stack.status()


def test_a_service_that_ends_takes_the_start_with_it(make: StackMaker) -> None:
    """The error names the service and shows what it said last; the other service does not stay behind."""
    stack = make(mlflow=WEB, airflow=BROKEN)
    with pytest.raises(StackError, match=r"airflow ended instead of starting(.|\n)*the database is corrupt"):
        stack.up(config(stack, "mlflow", "airflow"))
    assert processes.marked(stack.state) == []


def test_a_service_that_never_answers_ends_the_start(make: StackMaker) -> None:
    """Patience has an end, and the error says what the service did instead of being well."""
    stack = make(mlflow=MUTE)
    with pytest.raises(StackError, match="mlflow is not well after 1 s: it does not answer"):
        stack.up(config(stack, "mlflow", timeout=1.0))
    assert processes.marked(stack.state) == []


def test_an_interrupted_start_leaves_nothing(make: StackMaker) -> None:
    """Ctrl-C in the middle of a start ends what had been started."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    stack = make([Step("store", interrupt, needs=("mlflow",))], mlflow=WEB)
    with pytest.raises(KeyboardInterrupt):
        stack.up(config(stack, "mlflow"))
    assert processes.marked(stack.state) == []


def test_a_second_start_says_that_one_runs_and_disturbs_nothing(make: StackMaker) -> None:
    """The running stack stays as it is."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    before = stack.status()
    with pytest.raises(AlreadyRunningError, match="already running"):
        make(mlflow=WEB).up(config(stack, "mlflow"))
    assert stack.status() == before


def test_what_is_missing_is_started_beside_what_runs(make: StackMaker) -> None:
    """Status names the service that is gone, and a start brings it back and leaves the other alone."""
    stack = make(mlflow=WEB, airflow=WEB)
    assert stack.up(config(stack, "mlflow", "airflow")) is False
    before = stack.status()
    kill(stack, "airflow")
    assert [(each.name, each.trouble) for each in stack.status()] == [("mlflow", ""), ("airflow", "gone")]
    assert stack.up(config(stack, "mlflow", "airflow")) is True
    after = stack.status()
    assert after[0] == before[0]
    assert (after[1].trouble, after[1].address) == ("", before[1].address)
    assert after[1].pid != before[1].pid


def test_what_a_killed_process_left_behind_is_ended_before_the_next_one(make: StackMaker) -> None:
    """A worker that goes on answering after its parent was killed is named in the status, and gives way to a whole service."""
    stack = make(mlflow=FORKED)
    stack.up(config(stack, "mlflow"))
    kill(stack, "mlflow")
    (orphan,) = processes.marked(stack.state, "mlflow")
    assert [each.trouble for each in stack.status()] == [f"gone, and left the processes {orphan.pid} behind"]
    stack.up(config(stack, "mlflow"))
    assert orphan not in processes.marked(stack.state)
    assert [each.trouble for each in stack.status()] == [""]


def test_a_service_that_hangs_is_started_anew(make: StackMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is alive and does not become well is replaced."""
    monkeypatch.setattr(local_stack, "MENDING", 0.5)
    monkeypatch.setattr(probes, "TIMEOUT", 0.5)
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    (before,) = stack.status()
    psutil.Process(before.pid).suspend()
    stack.up(config(stack, "mlflow"))
    (after,) = stack.status()
    assert (after.trouble, after.pid == before.pid) == ("", False)


def test_healing_that_fails_leaves_the_rest_alone(make: StackMaker) -> None:
    """What cannot be started is named; what runs goes on."""
    stack = make(mlflow=WEB, airflow=WEB)
    stack.up(config(stack, "mlflow", "airflow"))
    kill(stack, "airflow")
    with pytest.raises(StackError, match=r"airflow ended instead of starting(.|\n)*The rest runs on"):
        make(mlflow=WEB, airflow=BROKEN).up(config(stack, "mlflow", "airflow"))
    assert stack.status()[0].trouble == ""


def test_a_start_beside_what_runs_may_choose_nothing_else(make: StackMaker, tmp_path: Path) -> None:
    """Other ports, DAGs or features than the running ones are refused; choosing nothing is choosing what runs."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    with pytest.raises(StackError, match="other ports, DAGS, DATA or FEAST"):
        stack.up(StackConfig(state=tmp_path, ports={"mlflow": 1}, chosen=frozenset({"mlflow"})))
    with pytest.raises(StackError, match="other ports, DAGS, DATA or FEAST"):
        stack.up(StackConfig(state=tmp_path, ports={"mlflow": 0}, dag_folders=(tmp_path,)))
    with pytest.raises(AlreadyRunningError):
        stack.up(StackConfig(state=tmp_path, ports={"mlflow": 1}))


def test_an_interrupted_start_is_taken_to_its_end(make: StackMaker) -> None:
    """A start that was killed leaves processes and a record that is not ready: the next start does the rest, with its steps."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    before = stack.status()
    stack.state.amend(lambda record: setattr(record, "ready", False))
    done: list[str] = []
    again = make([Step("store", lambda: done.append("store"))], mlflow=WEB)
    assert again.up(config(stack, "mlflow")) is False
    assert (done, stack.status(), stack.state.read().ready) == (["store"], before, True)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ports": {}, "services": {"mlflow": 7}}', '{"services": {}, "future": 1}'])
def test_an_unreadable_record_keeps_nobody_from_ending_or_starting(make: StackMaker, content: str) -> None:
    """The processes carry a mark, so that they are found and ended without a record."""
    stack = make(mlflow=WEB)
    for end in (stack.down, lambda: stack.up(config(stack, "mlflow"))):
        stack.up(config(stack, "mlflow"))
        before = stack.state.read().services["mlflow"]
        (stack.state.path / "stack.json").write_text(content)
        end()
        assert not processes.is_alive(before)


def test_a_stack_whose_folder_was_removed_is_ended(make: StackMaker) -> None:
    """Removing the folder under a running stack does not hide its processes."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    shutil.rmtree(stack.state.path)
    assert stack.down() == 1
    assert processes.marked(stack.state) == []


def test_a_stack_of_another_version_is_told(make: StackMaker) -> None:
    """A record that lacks a service's port is no traceback."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    with pytest.raises(StackError, match="another version, which has no 'airflow'"):
        make(mlflow=WEB, airflow=WEB).status()


def test_a_stack_that_died_whole_can_be_started_again(make: StackMaker) -> None:
    """After a restart of the machine the record is stale; that is said, and a start needs no cleaning."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    psutil.Process(stack.state.read().services["mlflow"].pid).kill()
    processes.end(stack.state)
    with pytest.raises(NotRunningError, match="nobody ended it"):
        stack.status()
    stack.up(config(stack, "mlflow"))
    assert [each.trouble for each in stack.status()] == [""]


def test_one_service_is_restarted_on_its_port(make: StackMaker) -> None:
    """A service that was ended comes back where it was, as another process, and is in the record."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    (before,) = stack.status()
    stack.stop("mlflow")
    stack.start("mlflow")
    (after,) = stack.status()
    assert (after.address, after.trouble) == (before.address, "")
    assert after.pid != before.pid


def test_the_state_folder_is_its_owners_alone(make: StackMaker) -> None:
    """Databases and configurations in it hold secrets."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    assert stack.state.path.stat().st_mode & 0o077 == 0
