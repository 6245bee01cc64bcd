"""Repeats of a mutating call whose server was killed meanwhile: the real command line, with a backend that never answers."""

from __future__ import annotations

import signal
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from ml_platform.v1 import experiments_pb2, experiments_pb2_grpc
from tests.support.errors import rich_error
from tests.support.server_process import fresh_channel, make_key, server_log, server_process

REQUEST = experiments_pb2.CreateExperimentRequest(name="e", request_id="r")


def calls_in_progress(folder: Path) -> int:
    """How many calls the store knows without an answer."""
    with closing(sqlite3.connect(folder / "store.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM done_calls WHERE response IS NULL").fetchone()
    return int(count)


def test_a_repeat_after_a_kill_does_the_work_at_once(tmp_path: Path):
    """The work of a server that was killed is taken over by the first repeat, without waiting for a lease to end."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with server_process(tmp_path, "--services", "experiments", env={"ML_PLATFORM_MLFLOW__TRACKING_URI": address}) as server:
            server.wait_until_ready()
            metadata = (("authorization", f"Bearer {make_key(tmp_path)}"),)
            with fresh_channel(server.port) as channel:
                stub = experiments_pb2_grpc.ExperimentServiceStub(channel)
                call = stub.CreateExperiment.future(REQUEST, metadata=metadata, timeout=100, wait_for_ready=True)
                server.wait_until(lambda: calls_in_progress(tmp_path) == 1)
                server.end(signal.SIGKILL)
                assert call.code() == grpc.StatusCode.UNAVAILABLE
    server_log(tmp_path).unlink()
    with server_process(tmp_path, "--services", "experiments") as server:
        server.wait_until_ready()
        with fresh_channel(server.port) as channel:
            stub = experiments_pb2_grpc.ExperimentServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.CreateExperiment(REQUEST, metadata=metadata, timeout=100, wait_for_ready=True)
    assert rich_error(caught.value).brief == ("UNAVAILABLE", "BACKEND_UNAVAILABLE")
