"""What a stack says and does on good days and on bad ones, with small services in place of the real ones."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy.local import probes, processes
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
            )

        return {name: service(name, code) for name, code in programs.items()}

    return build


@pytest.fixture
def make(tmp_path: Path) -> Iterator[StackMaker]:
    """A maker of stacks in one state folder, which are ended after the test."""

    def stack(steps: list[Step] | None = None, **programs: str) -> Stack:
        def prepare(_layout: Layout, **_rest: Any) -> list[Step]:
            return list(steps or [])

        return Stack(tmp_path, progress=Progress(io.StringIO()), describe=describe(**programs), prepare=prepare)

    yield stack
    Stack(tmp_path, progress=Progress(io.StringIO())).down()


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


def test_a_stack_that_is_partly_dead_is_told(make: StackMaker) -> None:
    """Status names the service that is gone, and a start refuses to build on the rest."""
    stack = make(mlflow=WEB, airflow=WEB)
    stack.up(config(stack, "mlflow", "airflow"))
    stack.stop("airflow", grace=0.0)
    assert [(each.name, each.trouble) for each in stack.status()] == [("mlflow", ""), ("airflow", "gone")]
    with pytest.raises(StackError, match=r"only in part .airflow: gone.*make down"):
        stack.up(config(stack, "mlflow", "airflow"))


def test_what_a_crashed_starter_left_is_told_and_ended(make: StackMaker) -> None:
    """A start that was killed leaves processes and an unready record: the next start says so, an end ends them."""
    stack = make(mlflow=WEB)
    stack.up(config(stack, "mlflow"))
    record = stack.state.read()
    record.ready = False
    stack.state.write(record)
    with pytest.raises(StackError, match=r"interrupted start .* left 1 processes behind"):
        stack.up(config(stack, "mlflow"))
    assert stack.down() == 1


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
