"""What a person may choose about the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local.config import DEFAULT_PORTS, parse_feast, parse_folders, parse_ports
from deploy.local.environment import base, export_lines
from deploy.local.errors import StackError
from deploy.local.pipelines import dag_files
from deploy.local.services.airflow import bundles


def test_ports_not_chosen_keep_their_default() -> None:
    """One chosen port changes that one alone."""
    assert parse_ports(["mlflow=5050"]) == {**DEFAULT_PORTS, "mlflow": 5050}


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ("mlflow=tcp://10.0.0.1:5000", "MLFLOW_PORT"),
        ("server=65536", "GRPC_PORT"),
        ("airflow=", "AIRFLOW_PORT"),
        ("mysql=3306", "mysql"),
    ],
)
def test_what_is_no_port_is_named(choice: str, said: str) -> None:
    """A port that cannot be one is refused with the name of the variable it came from."""
    with pytest.raises(StackError, match=said):
        parse_ports([choice])


def test_dag_folders_are_given_with_commas(tmp_path: Path) -> None:
    """Several folders may be added, spaces and all."""
    first, second = tmp_path / "a", tmp_path / "b c"
    first.mkdir()
    second.mkdir()
    assert parse_folders(f"{first}, {second},", "DAGS") == (first, second)


def test_a_dag_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A misspelt folder is told before anything is started."""
    with pytest.raises(StackError, match="nowhere"):
        parse_folders(str(tmp_path / "nowhere"), "DAGS")


def test_a_feast_project_is_a_file_or_its_folder(tmp_path: Path) -> None:
    """Either may be named; nothing named means the stack's own."""
    configuration = tmp_path / "feature_store.yaml"
    configuration.touch()
    assert parse_feast(str(tmp_path)) == parse_feast(str(configuration)) == configuration
    assert parse_feast("") is None
    with pytest.raises(StackError, match=r"other\.yaml"):
        parse_feast(str(tmp_path / "other.yaml"))


def test_each_dag_folder_is_a_bundle_of_its_own_name() -> None:
    """Folders that end alike still get different names, and a folder named twice is taken once."""
    described = bundles([Path("/a/x/dags"), Path("/b/x/dags"), Path("/a/x/dags"), Path("/c/my dags")])
    assert [each["name"] for each in described] == ["x-dags", "x-dags-2", "c-my_dags"]
    assert [each["kwargs"] for each in described] == [{"path": "/a/x/dags"}, {"path": "/b/x/dags"}, {"path": "/c/my dags"}]


def test_files_that_look_like_dags_are_waited_for(tmp_path: Path) -> None:
    """Helper modules beside DAGs are not mistaken for DAGs."""
    (tmp_path / "training.py").write_text("from airflow.sdk import dag")
    (tmp_path / "helpers.py").write_text("import pandas")
    assert dag_files([tmp_path]) == [tmp_path / "training.py"]


def test_settings_of_another_installation_stay_out() -> None:
    """Services use their own database and server whatever the caller's shell is set up for, but DAGs keep their connections."""
    inherited = {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://production",
        "AIRFLOW_HOME": "/srv/airflow",
        "MLFLOW_BACKEND_STORE_URI": "postgresql://production",
        "AIRFLOW_CONN_WAREHOUSE": "kept",
        "HOME": "/home/somebody",
    }
    kept = base(inherited)
    assert {name: kept.get(name) for name in inherited} == {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": None,
        "AIRFLOW_HOME": None,
        "MLFLOW_BACKEND_STORE_URI": None,
        "AIRFLOW_CONN_WAREHOUSE": "kept",
        "HOME": "/home/somebody",
    }


def test_a_proxy_is_for_the_outside_world() -> None:
    """Talks on this machine go past a proxy, and exceptions that were there stay."""
    assert base({"no_proxy": "intranet"})["NO_PROXY"] == "intranet,127.0.0.1,localhost"


def test_export_lines_survive_a_shell() -> None:
    """Values with spaces and quotes come out of `eval` as they went in."""
    assert export_lines({"A": "x", "B": "it's here"}) == "export A=x\nexport B='it'\"'\"'s here'"
