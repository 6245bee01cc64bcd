"""Why a platform cannot be reached: each cause on a real connection, in words of its own."""

from __future__ import annotations

import http.server
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest
import trustme

from ml_platform import DeadlineExceeded, MLPlatform, ResourceExhausted, Unavailable
from ml_platform.config import Endpoint
from ml_platform.unreachable import unreachable

CA, STRANGER = trustme.CA(), trustme.CA()


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    """The authority that issued the servers' certificates."""
    CA.cert_pem.write_to_path(tmp_path / "ca.pem")
    return tmp_path / "ca.pem"


@contextmanager
def grpc_server(certificate: trustme.LeafCert | None = None, *, asks_clients: bool = False) -> Iterator[int]:
    """A gRPC server without methods, with TLS if it has a certificate."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        pair = (certificate.private_key_pem.bytes(), chain)
        authorities = CA.cert_pem.bytes() if asks_clients else None
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair], authorities, asks_clients))
    server.start()
    try:
        yield port
    finally:
        server.stop(None)


def web_server() -> AbstractContextManager[int]:
    """A server of web pages, HTTP/1, which refuses to be a proxy."""
    return serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler))


@contextmanager
def serving(server: socketserver.TCPServer) -> Iterator[int]:
    """The port of a server that runs."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
    return port


def failure(url: str, ca_file: Path | None = None) -> Unavailable:
    """The error of a call to an address."""
    with MLPlatform(url, "k", retries=0, ca_file=ca_file, timeout=20) as platform, pytest.raises(Unavailable) as caught:
        platform.whoami()
    assert caught.value.metadata["transport"]
    return caught.value


def test_a_refused_connection():
    """Nobody listens: the port is named, and how often and how long it was tried."""
    port = closed_port()
    error = failure(f"http://127.0.0.1:{port}")
    assert error.message.startswith(f"Nothing listens at 127.0.0.1:{port}: the connection was refused. Tried once, for ")


def test_the_retries_are_counted():
    """A call that is tried again says how often and for how long."""
    with MLPlatform(f"127.0.0.1:{closed_port()}", "k", retries=2) as platform, pytest.raises(Unavailable) as caught:
        platform.whoami()
    assert "Tried 3 times, for " in caught.value.message


def test_an_unknown_name():
    """A host that no resolver knows is named."""
    error = failure("http://no-such-host.invalid:50051")
    assert error.message.startswith("The host name no-such-host.invalid cannot be resolved.")


def test_tls_to_a_plaintext_port(ca_file: Path):
    """https:// to a server without TLS says so, with the address that works."""
    with grpc_server() as port:
        error = failure(f"https://localhost:{port}", ca_file)
    assert error.message.startswith(f"The server at localhost:{port} does not speak TLS.")
    assert f"http://localhost:{port}" in error.remedy


def test_plaintext_to_a_tls_port():
    """http:// to a server with TLS is turned away without a word; the error says what may be the matter."""
    with grpc_server(CA.issue_cert("localhost")) as port:
        error = failure(f"http://localhost:{port}")
    assert "It may expect TLS." in error.message
    assert f"https://localhost:{port}" in error.remedy


def test_a_certificate_of_an_unknown_authority(tmp_path: Path):
    """A certificate that nobody here vouches for: the remedy is ca_file."""
    STRANGER.cert_pem.write_to_path(tmp_path / "ca.pem")
    with grpc_server(CA.issue_cert("localhost")) as port:
        error = failure(f"https://localhost:{port}", tmp_path / "ca.pem")
    assert error.message.startswith(f"The certificate of the server at localhost:{port} is not trusted here.")
    assert "ca_file" in error.remedy


def test_a_certificate_for_another_name(ca_file: Path):
    """A certificate of the right authority for another host."""
    with grpc_server(CA.issue_cert("other.example")) as port:
        error = failure(f"https://localhost:{port}", ca_file)
    assert "was issued for another name than localhost." in error.message


def test_an_expired_certificate(ca_file: Path):
    """A certificate whose time is over is told from one that is not trusted."""
    with grpc_server(CA.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))) as port:
        error = failure(f"https://localhost:{port}", ca_file)
    assert "has expired" in error.message


def test_a_server_that_requires_client_certificates(ca_file: Path):
    """Who has no certificate is told that one may be required."""
    with grpc_server(CA.issue_cert("localhost"), asks_clients=True) as port:
        error = failure(f"https://localhost:{port}", ca_file)
    assert "It may require a client certificate." in error.message
    assert "cert_file" in error.remedy


@pytest.mark.parametrize("greeting", [b"220 mail ESMTP\r\n", b"-ERR unknown command 'PRI'\r\n"])
def test_a_server_of_another_protocol(greeting):
    """What speaks neither gRPC nor HTTP is not called a web server."""

    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)
            self.request.recv(1024)

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting)) as port:
        error = failure(f"http://127.0.0.1:{port}")
    assert error.message.startswith(f"What listens at 127.0.0.1:{port} is no gRPC server: it does not speak HTTP/2.")


def test_an_ssh_server():
    """It is known by the fourth of its first bytes, which is all that gRPC reports of them."""

    class Greeting(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
            self.request.recv(1024)

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Greeting)) as port:
        error = failure(f"http://127.0.0.1:{port}")
    assert "answers, but speaks no HTTP/2" in error.message
    assert "'SSH-'" in error.message


def test_a_web_server():
    """A server of web pages speaks HTTP, but not gRPC."""
    with web_server() as port:
        error = failure(f"http://127.0.0.1:{port}")
    assert error.message.startswith(f"The server at 127.0.0.1:{port} speaks HTTP, but not gRPC.")


def test_a_proxy_that_does_not_run(monkeypatch: pytest.MonkeyPatch):
    """The proxy is blamed, not the platform, and its password is not shown."""
    port = closed_port()
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    error = failure("http://192.0.2.1:50051")
    assert error.message.startswith(f"The proxy http://127.0.0.1:{port} does not run")
    assert "http_proxy" in error.remedy
    assert "secret" not in str(error)


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch):
    """A proxy that does not let the call through is named with its status."""
    with web_server() as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        error = failure("http://192.0.2.1:50051")
    assert error.message.startswith(f"The proxy http://127.0.0.1:{port} refuses to connect to 192.0.2.1:50051: it answers 501.")


def test_a_server_that_says_nothing():
    """Somebody who accepts connections and never answers: the deadline is told, and how long it was."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with MLPlatform(url, "k", retries=0, timeout=0.5) as platform, pytest.raises(DeadlineExceeded) as caught:
            platform.whoami()
    assert "did not answer within the deadline. Tried once, for 0." in caught.value.message


@pytest.mark.parametrize(
    ("details", "said"),
    [
        ("Received http2 header with status: 503", "answers 503 in its place"),
        ("Received http2 header with status: 404", "speaks HTTP, but not gRPC"),
        ("connection attempt timed out before receiving SETTINGS frame", "does not answer as a gRPC server"),
        ("Failed to connect to remote host: Network is unreachable", "no way through the network"),
        ("Failed to connect to remote host: Timeout occurred: FD Shutdown", "does not react"),
        ("something new", "The platform at http://ml.example.com:50051 does not answer."),
    ],
)
def test_causes_that_cannot_be_shown_here(details: str, said: str):
    """Networks and load balancers that fail are known by gRPC's own words."""
    assert said in unreachable(details, Endpoint("ml.example.com", 50051, tls=False), {}).message


def test_a_request_that_is_too_large():
    """A request beyond what the server takes says how large it was, what is taken, and what to do."""
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", 1000)])
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    handlers = {"CreateExperiment": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ml_platform.v1.ExperimentService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with MLPlatform(f"127.0.0.1:{port}", "k", retries=0) as platform, pytest.raises(ResourceExhausted) as caught:
            platform.create_experiment("e", description="d" * 2_000_000)
    finally:
        server.stop(None)
    assert caught.value.message == "The request has 2.0 MB, and the platform takes 1000 bytes."
    assert caught.value.remedy.startswith("Send less in one call")
