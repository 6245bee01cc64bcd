"""Ports: free ones are found, taken ones are told."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from deploy.local import ports
from deploy.local.errors import StackError


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_zero_becomes_a_free_port_and_others_stay() -> None:
    """Ports that were chosen are kept, the rest are free and distinct."""
    chosen = ports.choose({"mlflow": 0, "airflow": 0, "server": 50051})
    assert chosen["server"] == 50051
    assert len(set(chosen.values())) == 3
    assert ports.is_free(chosen["mlflow"])
    assert ports.is_free(chosen["airflow"])


def test_a_taken_port_is_told_with_who_wants_it_who_has_it_and_what_to_do(taken: int) -> None:
    """The message names the service, the holder and the variable."""
    with pytest.raises(StackError, match=rf"Port {taken}, which mlflow wants, is taken by .*\(process \d+\).*MLFLOW_PORT="):
        ports.check({"mlflow": taken})


def test_a_port_wanted_twice_is_told() -> None:
    """Two services on one port are a mistake, whoever else listens."""
    (port,) = ports.free_ports(1)
    with pytest.raises(StackError, match=f"airflow and mlflow both want port {port}"):
        ports.check({"mlflow": port, "airflow": port})


def test_free_ports_pass() -> None:
    """Ports that nobody holds raise nothing."""
    ports.check(dict(zip(("mlflow", "airflow"), ports.free_ports(2), strict=True)))
