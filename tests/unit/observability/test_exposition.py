"""The HTTP side, with real sockets and clients that behave badly."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import httpx
import pytest

from ml_platform_server.observability.collectors import registry_of
from ml_platform_server.observability.exposition import MetricsServer, Page, pages_of, scrape
from ml_platform_server.observability.recorders import CallMetrics, PredictionMetrics


@dataclass
class Running:
    server: MetricsServer
    port: int
    ready: bool = True
    broken: bool = False

    async def get(self, path: str, **options) -> httpx.Response:
        async with httpx.AsyncClient() as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}", **options)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    calls = CallMetrics()
    calls.for_method("/a.v1.Service/Method").ended("OK", 0.1)
    page = pages_of(registry_of(calls=calls, predictions=PredictionMetrics()))

    async def breakable(accept: str) -> Page:
        if state.broken:
            raise RuntimeError("secret detail")
        return await page(accept)

    server = MetricsServer(page=breakable, ready=lambda: state.ready, timeout=0.3)
    state = Running(server, await server.listen("127.0.0.1", 0))
    yield state
    await server.close()


async def test_a_scrape_gets_the_text_format(running):
    """Who asks for nothing special gets Prometheus's text format, process and build told in it."""
    answer = await running.get("/metrics?x=1")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    for name in ("grpc_server_handled_total{", "process_cpu_seconds_total ", "process_open_fds ", "ml_platform_build_info{"):
        assert f"\n{name}" in answer.text


async def test_a_scrape_gets_openmetrics_if_it_asks_for_it(running):
    """Prometheus asks for OpenMetrics and gets it."""
    answer = await running.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1"}
    )
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")


async def test_health_and_readiness(running):
    """The process answers that it lives, and whether it takes calls."""
    running.ready = False
    assert [(await running.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 503]
    running.ready = True
    assert (await running.get("/readyz")).status_code == 200


async def test_other_paths_and_methods_are_refused(running):
    """Nothing but three paths is there, and only to be read."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{running.port}") as client:
        answers = [
            await client.get("/"),
            await client.get("/metrics/../x"),
            await client.post("/metrics"),
            await client.head("/metrics"),
        ]
    assert [404, 404, 405, 200] == [answer.status_code for answer in answers]
    assert answers[-1].content == b""


async def test_a_page_that_cannot_be_made_is_an_error_without_details(running):
    """A failure shows nothing of itself, and the next scrape is answered again."""
    running.broken = True
    answer = await running.get("/metrics")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    running.broken = False
    assert (await running.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET /met", b"\r\n\r\n", b"\x00\xff" * 50_000, b"GET /metrics\r\n\r\n", b"A" * 9000 + b"\r\n\r\n"]
)
async def test_clients_that_make_no_sense_are_cut_off(running, said):
    """Silence, halves, nonsense and requests without end cost nobody else an answer, and end soon."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(said)
    async with asyncio.timeout(3):
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await running.get("/healthz")).status_code == 200


def received(client: socket.socket) -> int:
    """How many bytes still come from a connection until it ends."""
    taken = 0
    client.settimeout(60)
    with suppress(ConnectionResetError):
        while chunk := client.recv(1_000_000):
            taken += len(chunk)
    return taken


async def test_a_client_that_does_not_read_is_cut_off(running):
    """A client that takes nothing of a long page does not hold its connection."""

    async def long(_: str) -> Page:
        return Page(b"x" * 20_000_000)

    server = MetricsServer(page=long, timeout=0.3)
    port = await server.listen("127.0.0.1", 0)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        await asyncio.to_thread(select.select, [client], [], [], 60)
        # The server has begun to answer, so its timer ends before this one does.
        await asyncio.sleep(1.0)
        assert await asyncio.to_thread(received, client) < 20_000_000
    await server.close()


async def test_connections_are_bounded(running):
    """Connections beyond the bound are closed at once; when the idle ones are cut off, others are answered again."""
    connections = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(40)]
    async with asyncio.timeout(3):
        for reader, _ in connections:
            with suppress(ConnectionResetError):
                await reader.read()
    for _, writer in connections:
        writer.close()
    assert (await running.get("/healthz")).status_code == 200


async def test_a_worker_is_scraped_through_its_socket(running, tmp_path):
    """A page goes through a socket file that nobody else may open; where there is none, there is no page."""
    path = tmp_path / "worker.sock"
    await running.server.listen_unix(path)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    page = await scrape(path)
    assert page.endswith((await running.get("/metrics")).content[-10:])
    assert b"grpc_server_handled_total{" in page
    running.broken = True
    assert await scrape(path) is None
    assert await scrape(tmp_path / "nobody.sock", timeout=0.2) is None


async def test_a_socket_file_that_was_left_behind_is_taken_over(running, tmp_path):
    """A worker that takes another's place takes its socket file too."""
    path = tmp_path / "worker.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    await running.server.listen_unix(path)
    assert await scrape(path)
