"""Health checks: each asks a service a real question and says what is wrong, or nothing."""

from __future__ import annotations

import http.client
import importlib
import json
import pkgutil
import socket
from collections.abc import Callable

from deploy.local.config import HOST
from ml_platform import v1

Probe = Callable[[], str | None]
TIMEOUT = 5.0


def valkey(port: int) -> str | None:
    """Ask for a PONG."""
    try:
        with socket.create_connection((HOST, port), timeout=TIMEOUT) as connection:
            connection.sendall(b"PING\r\n")
            answer = connection.recv(64)
    except OSError as error:
        return _no_answer(error)
    return None if answer == b"+PONG\r\n" else f"answers {answer!r}"


def http_ok(port: int, path: str) -> str | None:
    """Ask for a page that answers 200 when the service is well."""
    try:
        status, _ = _get(port, path)
    except (OSError, http.client.HTTPException) as error:
        return _no_answer(error)
    return None if status == http.HTTPStatus.OK else f"answers {status}"


def postgres(url: str) -> str | None:
    """Ask for a row."""
    import psycopg  # noqa: PLC0415  # most commands need not pay for it

    try:
        with psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=int(TIMEOUT)) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        return _no_answer(error)
    return None


def airflow(port: int, part: str) -> str | None:
    """Ask Airflow's API about one of its parts."""
    try:
        status, body = _get(port, "/api/v2/monitor/health")
        if status != http.HTTPStatus.OK:
            return f"answers {status}"
        parts = json.loads(body)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return _no_answer(error)
    return None if parts[part]["status"] == "healthy" else f"is {parts[part]['status'] or 'not known'} to Airflow's API"


def grpc_serving(port: int) -> str | None:
    """Ask the server about each service of the contract; those serve whose backends answer."""
    import grpc  # noqa: PLC0415  # takes 0.2 s, which most commands need not pay
    from grpc_health.v1 import health_pb2, health_pb2_grpc  # noqa: PLC0415  # the same

    waiting = []
    # A proxy configured for the outside world has no business here.
    with grpc.insecure_channel(f"{HOST}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in _contract():
            try:
                reply = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT)
            except grpc.RpcError as error:
                return f"answers {error.code().name}"
            if reply.status != health_pb2.HealthCheckResponse.SERVING:
                waiting.append(name.rpartition(".")[2])
    return f"does not serve {', '.join(waiting)}" if waiting else None


def _contract() -> list[str]:
    """Give the full names of the contract's services, from the generated stubs."""
    stubs = [module.name for module in pkgutil.iter_modules(v1.__path__) if module.name.endswith("_pb2")]
    files = [importlib.import_module(f"{v1.__name__}.{stub}").DESCRIPTOR for stub in stubs]
    return sorted(service.full_name for file in files for service in file.services_by_name.values())


def _get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _no_answer(error: Exception) -> str:
    return f"does not answer ({type(error).__name__})"
