"""Answers scrapes and health checks over HTTP, on a port or on a Unix socket.

It answers GET for three paths and nothing else, one request a connection. It runs on the event loop, so that its answer tells
that the loop turns; the page itself is written in a thread. Whoever is slow or sends nonsense is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ml_platform_server.observability.merging import WorkerPages, merged

__all__ = ["MetricsServer", "Page", "WorkerPages", "merged", "pages_of", "scrape"]

_log = structlog.get_logger(__name__)

_MOST_BYTES = 8192
_MOST_CONNECTIONS = 32
_PLAIN = "text/plain; charset=utf-8"
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What a scrape gets."""

    body: bytes
    content_type: str = "text/plain; version=0.0.4; charset=utf-8"


def pages_of(registry: CollectorRegistry) -> Callable[[str], Awaitable[Page]]:
    """Write the registry's page in the format that the header Accept of a request asks for, in a thread."""

    async def page(accept: str) -> Page:
        write, content_type = choose_encoder(accept)
        return Page(await asyncio.to_thread(write, registry), content_type)

    return page


class MetricsServer:
    """Serves /metrics, /healthz (the process answers) and /readyz (it takes calls).

    Args:
        page: makes the page, given the header Accept.
        ready: whether the server takes calls.
        timeout: seconds for a client to send its request, and again for it to take the answer.
    """

    def __init__(
        self, *, page: Callable[[str], Awaitable[Page]], ready: Callable[[], bool] = lambda: True, timeout: float = 5.0
    ) -> None:
        self._page = page
        self._ready = ready
        self._timeout = timeout
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, host: str, port: int) -> int:
        """Listen on a port, 0 for any that is free, and return it. Raises OSError if it is not to be had."""
        server = await asyncio.start_server(self._serve, host, port, limit=_MOST_BYTES)
        self._servers.append(server)
        taken: int = server.sockets[0].getsockname()[1]
        return taken

    async def listen_unix(self, path: Path) -> None:
        """Listen on a socket file of which nobody but this user can read. Raises OSError if it is not to be had."""
        self._servers.append(await asyncio.start_unix_server(self._serve, path, limit=_MOST_BYTES))
        _make_private(path)

    async def close(self) -> None:
        """Stop, whoever is still reading."""
        for server in self._servers:
            server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= _MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(self._timeout):
                request = await reader.readuntil(b"\r\n\r\n")
            answer = await self._answer(request)
            async with asyncio.timeout(self._timeout):
                writer.write(answer)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a client that is slow, gone or talks too much gets nothing
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _answer(self, request: bytes) -> bytes:
        line, *headers = request.decode("latin-1").split("\r\n")
        words = line.split(" ")
        if len(words) != 3 or not words[2].startswith("HTTP/1."):  # noqa: PLR2004  # method, target, version
            return _response(400, b"This is no HTTP request.\n")
        if words[0] not in {"GET", "HEAD"}:
            return _response(405, b"GET only.\n")
        accept = [value.strip() for name, _, value in (header.partition(":") for header in headers) if name.lower() == "accept"]
        return await self._found(words[1].partition("?")[0], ",".join(accept), bare=words[0] == "HEAD")

    async def _found(self, path: str, accept: str, *, bare: bool) -> bytes:
        if path == "/healthz":
            return _response(200, b"ok\n", bare=bare)
        if path == "/readyz":
            ready = self._ready()
            return _response(200 if ready else 503, b"ready\n" if ready else b"not ready\n", bare=bare)
        if path != "/metrics":
            return _response(404, b"There are /metrics, /healthz and /readyz.\n", bare=bare)
        try:
            page = await self._page(accept)
        except Exception:  # noqa: BLE001  # whatever it was, the scraper gets a 500, and the server goes on
            _log.exception("scrape_failed")
            return _response(500, b"The page could not be made; the server's log tells why.\n", bare=bare)
        return _response(200, page.body, page.content_type, bare=bare)


def _make_private(path: Path) -> None:
    path.chmod(0o600)


async def scrape(path: Path, *, timeout: float = 2.0) -> bytes | None:  # noqa: ASYNC109  # part of the promise: None by then
    """The page of a worker that listens on a socket file; None if it does not give one in time."""
    with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
                answer = await reader.read()
            finally:
                writer.transport.abort()
        head, _, page = answer.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 200 ") and f"Content-Length: {len(page)}".encode() in head.split(b"\r\n"):
            return page
    return None


def _response(status: int, body: bytes, content_type: str = _PLAIN, *, bare: bool = False) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + (b"" if bare else body)
