"""Several processes on one port, and some services only: the real command line, without any backend."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ml_platform.v1 import experiments_pb2, experiments_pb2_grpc, platform_pb2, platform_pb2_grpc
from tests.support.errors import rich_error
from tests.support.processes import free_port
from tests.support.server_process import ServerProcess, fresh_channel, gone, make_key, server_process


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[ServerProcess]:
    """A server of two workers on a store that is new to both."""
    folder = tmp_path_factory.mktemp("two")
    with server_process(folder, "--workers", "2", env={"ML_PLATFORM_SERVER__METRICS_PORT": str(metrics_port)}) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def key(two: ServerProcess) -> str:
    return make_key(two.folder)


def connections(pid: int) -> int:
    """How many connections a worker has."""
    return sum(connection.status == psutil.CONN_ESTABLISHED for connection in psutil.Process(pid).net_connections("tcp"))


def who_am_i(channel: grpc.Channel, key: str) -> str:
    """A call that needs the store and nothing else."""
    stub = platform_pb2_grpc.PlatformServiceStub(channel)
    answer = stub.WhoAmI(
        platform_pb2.WhoAmIRequest(), metadata=(("authorization", f"Bearer {key}"),), timeout=20, wait_for_ready=True
    )
    return answer.principal


def test_both_workers_answer_on_one_port(two: ServerProcess, key: str):
    """Connections spread over two processes, each of which answers; the ready line comes once and names the port."""
    channels = [fresh_channel(two.port) for _ in range(16)]
    try:
        assert {who_am_i(channel, key) for channel in channels} == {"somebody"}
        counts = [connections(pid) for pid in two.workers]
        assert (len(counts), min(counts) > 0) == (2, True), counts
    finally:
        for channel in channels:
            channel.close()
    assert two.log.count("is ready on") == 1


def test_one_scrape_tells_of_both_workers(two: ServerProcess, key: str, metrics_port: int):
    """The supervisor's page has the state of each worker, and the sum of the calls of both."""
    before = answered(scrape(metrics_port))
    for _ in range(16):
        with fresh_channel(two.port) as channel:
            who_am_i(channel, key)
    page = scrape(metrics_port)
    assert answered(page) == before + 16
    # One line a worker; the times may be the same, as both start at once.
    assert len(re.findall(r"^process_start_time_seconds\{", page, re.MULTILINE)) == 2, page[:2000]
    assert {'worker="0"', 'worker="1"'} <= set(re.findall(r'worker="\d"', page))


def answered(page: str) -> int:
    """How often WhoAmI was answered, according to a page of metrics."""
    (line,) = [line for line in page.splitlines() if 'grpc_method="WhoAmI"' in line and 'grpc_code="OK"' in line]
    return round(float(line.split()[-1]))


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_a_worker_that_is_killed_is_replaced(two: ServerProcess, key: str, metrics_port: int):
    """Calls go on while a worker is missing, and there are two again soon; what it had counted is not forgotten."""
    before = two.workers
    counted = answered(scrape(metrics_port))
    os.kill(before[0], signal.SIGKILL)
    for _ in range(5):
        with fresh_channel(two.port) as channel:
            assert who_am_i(channel, key) == "somebody"
    two.wait_until(lambda: len(set(two.workers) - set(before)) == 1 and before[1] in two.workers)
    fresh = next(iter(set(two.workers) - set(before)))
    two.wait_until(lambda: any(c.status == psutil.CONN_LISTEN for c in psutil.Process(fresh).net_connections("tcp")))
    assert '"event": "worker_ended"' in two.log
    assert answered(scrape(metrics_port)) == counted + 5


def test_a_worker_that_hangs_is_replaced(two: ServerProcess, key: str):
    """A worker that stands still is killed after some seconds of silence, and every new connection is served again."""
    before = two.workers
    os.kill(before[0], signal.SIGSTOP)
    two.wait_until(lambda: before[0] not in two.workers and len(two.workers) == 2)
    assert before[1] in two.workers
    assert '"event": "worker_hung"' in two.log
    for _ in range(16):
        with fresh_channel(two.port) as channel:
            assert who_am_i(channel, key) == "somebody"


def test_a_taken_port_is_noticed(tmp_path: Path):
    """A second start on the same port ends at once, with a sentence, before any worker is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with server_process(tmp_path, "--workers", "2", "--port", str(port)) as server:
            assert server.process.wait(60) == 1
            assert server.log == (
                f"ml-platform-server: Port {port} on 127.0.0.1 cannot be had: another process uses it, or it may not be used.\n"
            )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_port_of_workers_is_taken_for_others(two: ServerProcess, tmp_path: Path, workers: str):
    """A second server on the port of running workers ends at once, whether it is one process or several."""
    with server_process(tmp_path, "--workers", workers, "--port", str(two.port)) as server:
        assert server.process.wait(60) == 1
        assert f"Port {two.port} on 127.0.0.1 cannot be had" in server.log


def test_what_keeps_workers_from_starting_is_told_once(tmp_path: Path):
    """A start that cannot work ends with status 1 and the sentence that a single process would end with."""
    with server_process(tmp_path, "--workers", "2", env={"ML_PLATFORM_STORE__KEY_PEPPER": ""}) as server:
        assert server.process.wait(60) == 1
        told = [line for line in server.log.splitlines() if line.startswith("ml-platform-server: ")]
        assert len(told) == 1, server.log
        assert "ML_PLATFORM_STORE__KEY_PEPPER is not set" in told[0]


def test_sigterm_drains_the_workers_of_some_services(tmp_path: Path):
    """A server that predicts offers nothing else, says so in a rich error, and ends in an orderly way with its workers."""
    with server_process(tmp_path, "--workers", "2", "--services", "predictions") as server:
        server.wait_until_ready()
        with fresh_channel(server.port) as channel:
            assert services(channel) == {
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                "inference.GRPCInferenceService",
                "ml_platform.v1.PredictionService",
            }
            with pytest.raises(grpc.RpcError) as caught:
                experiments_pb2_grpc.ExperimentServiceStub(channel).ListExperiments(
                    experiments_pb2.ListExperimentsRequest(), timeout=10
                )
            assert rich_error(caught.value).brief == ("UNIMPLEMENTED", "UNIMPLEMENTED")
            with pytest.raises(grpc.RpcError) as unknown:
                check(channel, "ml_platform.v1.ExperimentService")
            assert unknown.value.code() == grpc.StatusCode.NOT_FOUND
            assert check(channel, "") in (health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING)
        workers = server.workers
        assert (server.end(), gone(workers)) == (0, True)
        assert '"backend": "airflow"' not in server.log
        assert server.log.count('"event": "stopped"') == 2


def services(channel: grpc.Channel) -> set[str]:
    """What reflection lists."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]), timeout=10, wait_for_ready=True)
    return {service.name for service in answer.list_services_response.service}


def check(channel: grpc.Channel, service: str) -> int:
    status: int = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status
    return status


def test_no_worker_outlives_a_supervisor_that_is_killed(tmp_path: Path):
    """When the supervisor is killed its workers end by themselves, and the port is free again."""
    with server_process(tmp_path, "--workers", "2", "--services", "platform") as server:
        server.wait_until_ready()
        workers = server.workers
        assert len(workers) == 2
        server.end(signal.SIGKILL)
        assert gone(workers)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", server.port))


def test_a_signal_before_the_workers_are_ready_gives_up_the_start(tmp_path: Path):
    """Whoever interrupts a start does not wait for it."""
    with server_process(tmp_path, "--workers", "2") as server:
        server.wait_until(lambda: len(server.workers) == 2)
        workers = server.workers
        begun = time.monotonic()
        assert server.end(signal.SIGINT) in (130, 0)
        assert (gone(workers), time.monotonic() - begun < 10) == (True, True)


def test_an_unknown_service_is_told_with_those_there_are(tmp_path: Path):
    """A name that is none ends the start with a list of the names."""
    with server_process(tmp_path, "--services", "predictions,oracles") as server:
        assert server.process.wait(60) == 1
        assert "'oracles' is no service; there are experiments, models," in server.log
