"""The order of a start, and what happens when a step of it fails."""

from __future__ import annotations

import io
import threading

import pytest

from deploy.local.errors import StackError
from deploy.local.launch import Step, launch
from deploy.local.progress import Progress


def test_a_step_waits_for_those_it_needs() -> None:
    """Whatever the order they are named in, steps run after their needs, and all of them run."""
    done: list[str] = []
    steps = [
        Step("server", lambda: done.append("server"), needs=("store", "example")),
        Step("example", lambda: done.append("example"), needs=("valkey",)),
        Step("store", lambda: done.append("store")),
        Step("valkey", lambda: done.append("valkey")),
    ]
    launch(steps, progress=Progress(io.StringIO()), cancelled=threading.Event())
    assert sorted(done) == ["example", "server", "store", "valkey"]
    assert done.index("valkey") < done.index("example") < done.index("server")
    assert done.index("store") < done.index("server")


def test_independent_steps_run_side_by_side() -> None:
    """Two steps that wait for each other finish, which they could not one after the other."""
    meeting = threading.Barrier(2, timeout=10)

    def meet() -> None:
        meeting.wait()

    launch([Step("mlflow", meet), Step("airflow", meet)], progress=Progress(io.StringIO()), cancelled=threading.Event())
    assert not meeting.broken


def test_a_failing_step_stops_the_others_and_what_needs_it() -> None:
    """The error comes out after the other steps have been told to stop and have stopped; later steps never begin."""
    cancelled = threading.Event()
    stopped: list[bool] = []
    begun: list[str] = []

    def fail() -> None:
        raise StackError("mlflow fell over")

    steps = [
        Step("mlflow", fail),
        Step("airflow", lambda: stopped.append(cancelled.wait(10))),
        Step("server", lambda: begun.append("server"), needs=("mlflow",)),
    ]
    with pytest.raises(StackError, match="mlflow fell over"):
        launch(steps, progress=Progress(io.StringIO()), cancelled=cancelled)
    assert stopped == [True]
    assert begun == []


def test_progress_says_what_is_ready_and_where() -> None:
    """Each step leaves one line, also where nobody watches."""
    said = io.StringIO()
    launch([Step("mlflow", lambda: None, tells="127.0.0.1:5000")], progress=Progress(said), cancelled=threading.Event())
    (line,) = said.getvalue().splitlines()
    assert line.split() == ["mlflow", "ready", "after", line.split()[3], "s", "127.0.0.1:5000"]
