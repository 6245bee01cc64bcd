"""The server's command line, without serving."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import pytest
import structlog
from typer.testing import CliRunner

from ml_platform_server.cli import app
from ml_platform_server.settings import StoreSettings


@pytest.fixture
def run_without_store(tmp_path, monkeypatch):
    """Runs a command where the store was not created yet."""
    monkeypatch.setenv("ML_PLATFORM_STORE__URL", f"sqlite+aiosqlite:///{tmp_path}/store.db")
    monkeypatch.setenv("ML_PLATFORM_STORE__KEY_PEPPER", "a pepper")
    yield lambda *arguments: CliRunner().invoke(app, arguments)
    structlog.reset_defaults()
    logging.basicConfig(force=True)


@pytest.fixture
def run(run_without_store):
    """Runs a command on a store of its own."""
    run_without_store("db", "upgrade")
    return run_without_store


def test_help_imports_nothing_heavy():
    """Asking for help loads no gRPC, no database and no vendor."""
    code = (
        "import sys, ml_platform_server.cli; print(*(set(sys.modules) & {'grpc', 'sqlalchemy', 'pydantic', 'mlflow', 'feast'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.strip() == ""


def test_a_new_key_is_alone_on_standard_output(run):
    """`keys create` prints the key and nothing else, so that a script can take it."""
    result = run("keys", "create", "--principal", "ann", "--scope", "all", "--expires", "30d")
    assert re.fullmatch(r"mlp_[0-9a-f]{12}_[0-9a-f]{64}_[0-9a-f]{8}\n", result.stdout), result.output


def test_keys_are_listed_and_revoked(run):
    """A key is listed with its principal and scopes until it is revoked, and then as revoked."""
    key_id = run("keys", "create", "--principal", "ann", "--scope", "models:read", "--scope", "models:write").stdout.split("_")[1]
    assert f"{key_id}  ann  valid  models:read models:write\n" == run("keys", "list").stdout
    assert f"{key_id} is revoked.\n" == run("keys", "revoke", key_id).stdout
    assert f"{key_id}  ann  revoked" in run("keys", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("keys", "create", "--principal", "ann", "--scope", "everything"), "'everything' is no scope."),
        (("keys", "create", "--principal", "ann", "--scope", "all", "--expires", "soon"), "'soon' is no duration."),
        (("keys", "create", "--principal", " ", "--scope", "all"), "The principal's name has 1 to 250 characters."),
        (("keys", "revoke", "nothing"), "There is no key 'nothing'."),
    ],
)
def test_a_mistake_is_told_in_a_line(run, arguments, expected):
    """What the operator can put right ends with status 1 and a sentence, not with a traceback."""
    result = run(*arguments)
    assert (result.exit_code, expected in result.stderr) == (1, True), result.output


def test_a_key_needs_the_pepper(run, monkeypatch):
    """Without the secret that keys are hashed with no key is made."""
    monkeypatch.delenv("ML_PLATFORM_STORE__KEY_PEPPER")
    result = run("keys", "create", "--principal", "ann", "--scope", "all")
    assert (result.exit_code, "ML_PLATFORM_STORE__KEY_PEPPER is not set" in result.stderr) == (1, True)


@pytest.mark.parametrize("arguments", [("list",), ("create", "--principal", "ann", "--scope", "all"), ("revoke", "0123456789ab")])
def test_commands_for_keys_create_no_store(run_without_store, tmp_path, arguments):
    """A store that does not exist is refused with its path and a remedy, and is not created."""
    result = run_without_store("keys", *arguments)
    assert (result.exit_code, result.stdout, list(tmp_path.iterdir())) == (1, "", []), result.output
    assert f"There is no store at {tmp_path}/store.db" in result.stderr
    assert "db upgrade" in result.stderr


def test_the_pepper_may_be_in_a_file(run, tmp_path, monkeypatch):
    """A key that was made with the pepper in a file is the same server's; a file that cannot be read is named."""
    monkeypatch.delenv("ML_PLATFORM_STORE__KEY_PEPPER")
    monkeypatch.setenv("ML_PLATFORM_STORE__KEY_PEPPER_FILE", str(tmp_path / "pepper"))
    arguments = ("keys", "create", "--principal", "ann", "--scope", "all")
    refused = run(*arguments)
    assert (refused.exit_code, "ML_PLATFORM_STORE__KEY_PEPPER_FILE cannot be read" in refused.stderr) == (1, True)
    (tmp_path / "pepper").write_text("a pepper\n")
    assert run(*arguments).exit_code == 0
    assert StoreSettings(key_pepper_file=tmp_path / "pepper").pepper == "a pepper"


def test_the_configuration_shows_no_secret(run, monkeypatch):
    """`config` tells each setting as its variable; passwords and the pepper are masked, in URLs too."""
    monkeypatch.setenv("ML_PLATFORM_STORE__URL", "postgresql+psycopg://me:secret@db/platform")
    monkeypatch.setenv("ML_PLATFORM_SERVER__PORT", "21000")
    lines = run("config").stdout.splitlines()
    assert "ML_PLATFORM_SERVER__PORT=21000" in lines
    assert "ML_PLATFORM_STORE__URL=postgresql+psycopg://me:********@db/platform" in lines
    assert "ML_PLATFORM_STORE__KEY_PEPPER=********" in lines
    assert "ML_PLATFORM_AIRFLOW__PASSWORD=" in lines


def test_a_wrong_setting_is_named(run, monkeypatch):
    """A value that is not valid is told by its variable, and is not shown."""
    monkeypatch.setenv("ML_PLATFORM_SERVER__PORT", "s3cret")
    result = run("config")
    assert (result.exit_code, "ML_PLATFORM_SERVER__PORT: " in result.stderr, "s3cret" in result.stderr) == (1, True, False)


def test_the_tables_are_brought_up_to_date(run_without_store, tmp_path):
    """`db upgrade` makes the database, and a second time finds it made."""
    results = [run_without_store("db", "upgrade") for _ in range(2)]
    assert [(result.exit_code, result.stdout) for result in results] == [(0, "The tables are up to date.\n")] * 2
    assert (tmp_path / "store.db").exists()


@pytest.mark.parametrize("host", ["", " ", "*"])
def test_a_host_that_is_none_is_named(run, monkeypatch, host):
    """What is no address of a machine is told as that, and not as a port that is taken."""
    monkeypatch.setenv("ML_PLATFORM_SERVER__HOST", host)
    result = run("serve")
    assert (result.exit_code, "ML_PLATFORM_SERVER__HOST" in result.output) == (1, True)


def test_a_store_address_that_is_none_is_named(run, monkeypatch):
    """A port that is no number is told with the variable that holds it."""
    monkeypatch.setenv("ML_PLATFORM_STORE__URL", "postgresql+psycopg://bob:pw@127.0.0.1:notaport/x")
    result = run("keys", "list")
    assert (result.exit_code, "ML_PLATFORM_STORE__URL" in result.output, "pw" in result.output) == (1, True, False)
