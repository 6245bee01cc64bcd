"""Links to the pages of MLflow's and Airflow's web interfaces."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ml_platform_server.backends.airflow.links import Links as AirflowLinks
from ml_platform_server.backends.mlflow.links import Links as MlflowLinks
from ml_platform_server.backends.web_address import web_address
from ml_platform_server.settings import AirflowSettings, MlflowSettings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://ml.example.com/mlflow/", "https://ml.example.com/mlflow"),
        ("HTTPS://ml.example.com//", "https://ml.example.com"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("https://ada@ml.example.com", "https://ml.example.com"),
        ("https://ada:s3cret@ml.example.com:8443/mlflow", "https://ml.example.com:8443/mlflow"),
        ("https://ada:s3@cret@ml.example.com", "https://ml.example.com"),
        ("https://ml.example.com/?token=s3cret#s3cret", "https://ml.example.com"),
    ],
)
def test_an_address_is_kept_without_credentials(url: str, address: str) -> None:
    """User, password, query and fragment are dropped: credentials are kept in each of them."""
    assert web_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "databricks",
        "sqlite:///mlflow.db",
        "file:///mlruns",
        "./mlruns",
        "http://",
        "http://ada:s3cret@",
        "http://ada:s3/cret@ml.example.com",
        "http://ada:33/cret@ml.example.com",
        "http://ada:33?cret@ml.example.com",
        "http://ada:33#cret@ml.example.com",
        "http://ml.example.com:port",
        "http://[::1",
    ],
)
def test_where_no_page_can_be_there_is_no_address(url: str) -> None:
    """What is no web server has no pages, and an address that splits at its own password is not shown in parts."""
    assert web_address(url) == ""


def test_mlflow_has_a_page_for_each_kind_of_thing() -> None:
    """The links are those of MLflow's own web interface; names are percent-encoded."""
    links = MlflowLinks(MlflowSettings(tracking_uri="http://ada:s3cret@mlflow:5000/"))
    assert links.experiment("7") == "http://mlflow:5000/#/experiments/7"
    assert links.run("7", "ab12") == "http://mlflow:5000/#/experiments/7/runs/ab12"
    assert links.model("fraud") == "http://mlflow:5000/#/models/fraud"
    assert links.version("Kredit & Ärger/50 %?#", 3) == (
        "http://mlflow:5000/#/models/Kredit%20%26%20%C3%84rger%2F50%20%25%3F%23/versions/3"
    )


def test_airflow_has_a_page_for_each_run() -> None:
    """The link is that of Airflow 3's own web interface; ids are percent-encoded."""
    links = AirflowLinks(AirflowSettings(api_url="http://ada:s3cret@airflow:8080"))
    assert links.run("train", "mlp-1") == "http://airflow:8080/dags/train/runs/mlp-1"
    assert links.run("a b", "manual__2026-01-01T00:00:00+00:00/x") == (
        "http://airflow:8080/dags/a%20b/runs/manual__2026-01-01T00%3A00%3A00%2B00%3A00%2Fx"
    )


def test_browsers_may_reach_the_pages_elsewhere() -> None:
    """The interface's own address wins over the one that the server uses."""
    mlflow = MlflowSettings(tracking_uri="databricks", ui_url="https://ada:s3cret@ml.example.com/mlflow")
    assert MlflowLinks(mlflow).experiment("7") == "https://ml.example.com/mlflow/#/experiments/7"
    airflow = AirflowSettings(api_url="http://airflow:8080", ui_url="https://ml.example.com/airflow/")
    assert AirflowLinks(airflow).run("train", "r") == "https://ml.example.com/airflow/dags/train/runs/r"


def test_without_an_address_nothing_has_a_link() -> None:
    """A tracking store that is no web server gives empty links."""
    links = MlflowLinks(MlflowSettings(tracking_uri="sqlite:///mlflow.db"))
    assert (links.experiment("7"), links.run("7", "r"), links.model("m"), links.version("m", 1)) == ("", "", "", "")


@pytest.mark.parametrize("settings", [MlflowSettings, AirflowSettings])
def test_an_interface_without_a_web_address_is_refused(settings: type[MlflowSettings | AirflowSettings]) -> None:
    """A ui_url without http:// or https:// would give links that no browser follows."""
    with pytest.raises(ValidationError, match="ui_url"):
        settings(ui_url="ml.example.com/mlflow")
