"""A whole server, started from the command line and seen from outside: its metrics and its traces."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from ml_platform.v1 import platform_pb2, platform_pb2_grpc
from tests.support.processes import free_port
from tests.support.server_process import ServerProcess, fresh_channel, make_key, server_process

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes the spans that are exported to it."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []

    def Export(self, request, context):  # noqa: N802  # named as in the contract
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans += [(span.name, span.trace_id.hex()) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture(scope="module")
def collector() -> Iterator[tuple[Collector, int]]:
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, port
    server.stop(None)


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, metrics_port: int, collector: tuple[Collector, int]
) -> Iterator[ServerProcess]:
    env = {
        "ML_PLATFORM_SERVER__METRICS_PORT": str(metrics_port),
        "ML_PLATFORM_TRACING__ENDPOINT": f"http://127.0.0.1:{collector[1]}",
        "ML_PLATFORM_TRACING__SAMPLE_RATIO": "0",
    }
    with server_process(tmp_path_factory.mktemp("observed"), env=env) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def key(server: ServerProcess) -> str:
    return make_key(server.folder)


def who_am_i(server: ServerProcess, key: str, *metadata: tuple[str, str]) -> None:
    """Make one call; a key that is not valid makes it fail."""
    with fresh_channel(server.port) as channel:
        stub = platform_pb2_grpc.PlatformServiceStub(channel)
        stub.WhoAmI(platform_pb2.WhoAmIRequest(), metadata=(("authorization", f"Bearer {key}"), *metadata), timeout=10)


def samples(port: int) -> dict[tuple[str, ...], float]:
    """What a scrape tells, by name and values of labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def test_a_scrape_tells_the_calls_of_a_server(server, key, metrics_port):
    """Calls that went well and calls that were refused are counted exactly, beside the state of the backends."""
    for _ in range(3):
        who_am_i(server, key)
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            who_am_i(server, "nonsense")
    labels = ("WhoAmI", "ml_platform.v1.PlatformService", "unary")
    server.wait_until(lambda: samples(metrics_port)["grpc_server_handling_seconds_count", *labels] == 5)
    server.wait_until(lambda: ("ml_platform_backend_up", "mlflow") in samples(metrics_port))
    told = samples(metrics_port)
    assert told["grpc_server_started_total", *labels] == 5
    assert told["grpc_server_handled_total", "OK", *labels] == 3
    assert told["grpc_server_handled_total", "UNAUTHENTICATED", *labels] == 2
    assert (told["ml_platform_backend_up", "store"], told["ml_platform_backend_up", "mlflow"]) == (1, 0)
    assert told["process_resident_memory_bytes",] > 1e7


def test_a_server_that_serves_is_ready(server, metrics_port):
    """Whoever asks over HTTP learns that it lives and takes calls."""
    for path in ("healthz", "readyz"):
        with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/{path}", timeout=10) as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/", timeout=10)


def test_a_traced_call_arrives_at_the_collector_and_in_the_log(server, key, collector):
    """A call whose caller traces it is a span of the caller's trace, and its line in the log bears the trace's id."""
    who_am_i(server, key)
    who_am_i(server, key, ("traceparent", TRACEPARENT))
    server.wait_until(lambda: bool(collector[0].spans), seconds=20)
    assert collector[0].spans == [("ml_platform.v1.PlatformService/WhoAmI", TRACE)]
    server.wait_until(lambda: TRACE in server.log, seconds=5)
    assert server.log.count("trace_id") == 1


def test_a_metrics_port_that_is_taken_is_told(tmp_path: Path):
    """A server that cannot tell its metrics says so and ends, rather than run unseen."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with server_process(tmp_path, env={"ML_PLATFORM_SERVER__METRICS_PORT": str(port)}) as server:
            assert server.process.wait(60) != 0
            assert f"Port {port} for the metrics cannot be had" in server.log
