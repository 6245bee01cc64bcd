"""The state folder: records, secrets, logs and the lock."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.local import credentials, logs
from deploy.local.errors import NotRunningError, StackError
from deploy.local.state import ProcessRecord, Record, StateFolder


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """What one command started, the next one knows."""
    state = StateFolder(tmp_path)
    record = Record(ports={"mlflow": 1}, dag_folders=["/dags"], ready=True, services={"mlflow": ProcessRecord(7, 8.5)})
    state.write(record)
    assert StateFolder(tmp_path).read() == record


def test_nothing_runs_without_a_record(tmp_path: Path) -> None:
    """An ended stack and one that never was look the same, and the error says how to start one."""
    state = StateFolder(tmp_path)
    state.write(Record(ports={}))
    state.forget()
    with pytest.raises(NotRunningError, match="make up"):
        state.read()


def test_only_one_command_changes_a_stack_at_a_time(tmp_path: Path) -> None:
    """A second start during a start is refused; afterwards the way is free."""
    with (
        StateFolder(tmp_path).locked(),
        pytest.raises(StackError, match="another command"),
        StateFolder(tmp_path).locked(wait=0.2),
    ):
        pass
    with StateFolder(tmp_path).locked():
        pass


def test_changes_of_the_record_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """Many changes at once all arrive, as when services start side by side."""
    state = StateFolder(tmp_path)
    state.write(Record(ports={}))

    def add(number: int) -> None:
        state.amend(lambda record: record.ports.update({str(number): number}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(state.read().ports.values()) == list(range(40))


def test_secrets_of_an_earlier_version_are_kept_and_completed(tmp_path: Path) -> None:
    """A secret that a file lacks is made once, and those that it has stay."""
    path = tmp_path / "credentials.json"
    path.write_text('{"key_pepper": "kept", "airflow_password": "kept too", "api_key": ""}')
    made = credentials.load(path)
    assert (made.key_pepper, made.airflow_password) == ("kept", "kept too")
    assert credentials.load(path).postgres_password == made.postgres_password


def test_secrets_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    """The same secrets come back, in a file that nobody else may read, and they do not show when printed."""
    path = tmp_path / "credentials.json"
    made = credentials.load(path)
    assert credentials.load(path) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.airflow_password not in repr(made)
    assert credentials.load(tmp_path / "other.json") != made


def test_the_logs_of_the_run_before_are_kept_apart(tmp_path: Path) -> None:
    """A new run begins with empty logs, and the last run's are still there."""
    state = StateFolder(tmp_path)
    state.log("mlflow").write_text("old\n")
    logs.set_aside(state)
    assert logs.tail(state.log("mlflow"), 5) == []
    assert (state.logs / "mlflow.log.previous").read_text() == "old\n"


def test_a_failure_shows_the_end_of_the_log(tmp_path: Path) -> None:
    """Whoever reads the error need not look for the log."""
    state = StateFolder(tmp_path)
    state.log("mlflow").write_text("".join(f"line {number}\n" for number in range(100)))
    said = str(logs.blame(state, "mlflow", "ended instead of starting"))
    assert said.startswith("mlflow ended instead of starting.")
    assert "line 99" in said
    assert "line 5\n" not in said


def test_the_log_of_an_unknown_service_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    """A misspelt name is answered with the right ones."""
    state = StateFolder(tmp_path)
    for name in ("mlflow", "airflow", "airflow-scheduler"):
        state.log(name).touch()
    with pytest.raises(StackError, match="mlflow"):
        logs.choose(state, "mflow")
    assert logs.choose(state, "") == [state.log(name) for name in ("airflow-scheduler", "airflow", "mlflow")]
    assert logs.choose(state, "airflow") == [state.log(name) for name in ("airflow-scheduler", "airflow")]
    assert logs.choose(state, "airflow-scheduler") == [state.log("airflow-scheduler")]
