"""What BentoML says, or fails to say, in the platform's words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import httpx
import pytest

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.bentoml.errors import failure_of
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime
from ml_platform_server.settings import BentomlSettings
from tests.support.serving import column


@asynccontextmanager
async def _predictor(status: str, body: str, *, silent: bool = False) -> AsyncIterator[BentomlBackend]:
    """A client of an HTTP server that gives every request this answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            if silent:
                await reader.read()  # until the client gives up
            answer = body.encode()
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\nConnection: close\r\n\r\n".encode() + answer)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, BentomlBackend(settings=BentomlSettings(url=f"http://127.0.0.1:{port}", timeout=0.5)) as backend:
        yield backend


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, {"error": "gone", "reason": "MODEL_ARTIFACT_MISSING"}, "MODEL_ARTIFACT_MISSING"),
        (422, {"error": "ValueError: secret", "reason": "MODEL_FAILED"}, "MODEL_FAILED"),
        (422, {"error": "ValueError: secret", "reason": "INPUT_REJECTED"}, "INPUT_REJECTED"),
        (422, {"error": "is no time", "reason": "INPUT_INVALID", "column": "at"}, "INPUT_INVALID"),
        (503, {"error": "no registry", "reason": "REGISTRY_UNAVAILABLE"}, "BACKEND_UNAVAILABLE"),
        (503, {"error": "busy"}, "BACKEND_UNAVAILABLE"),
        (429, {"error": "Too many requests"}, "OVERLOADED"),
        (504, {"error": "Timed out"}, "DEADLINE_EXCEEDED"),
        (500, {"error": "An unexpected error has occurred"}, "BACKEND_FAILED"),
        (400, [{"error": "1 validation error"}], "BACKEND_FAILED"),
    ],
)
def test_refusals_have_a_reason(status: int, body: object, reason: str) -> None:
    """Each refusal of BentoML is one of the contract's reasons, and its words are not passed on."""
    error = failure_of(httpx.Response(status, json=body))

    assert reason == error.reason_name
    assert "secret" not in error.message


def test_refusal_that_is_no_json_has_a_reason() -> None:
    """A proxy's page in place of BentoML's answer is understood by its status."""
    assert failure_of(httpx.Response(502, text="<html>Bad Gateway</html>")).reason_name == "BACKEND_UNAVAILABLE"


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"outputs": {}}', '{"outputs": {"prediction": 1}}', '{"outputs": {"prediction": [1, 2]}}']
)
async def test_answers_that_make_no_sense_are_refused(body: str) -> None:
    """An answer that is not one value a row and output is BACKEND_FAILED."""
    version = models_pb2.ModelVersion(model_name="m", version=1)
    columns = columns_of(models_pb2.ModelSignature(inputs=[column("a")]))

    async with _predictor("200 OK", body) as backend:
        runtime = BentomlRuntime(version=version, columns=columns, backend=backend)
        with pytest.raises(PlatformError) as caught:
            await runtime.predict([[1.0]])

    assert caught.value.reason_name == "BACKEND_FAILED"


@pytest.mark.parametrize("call", [lambda backend: backend.probe(), lambda backend: backend.load("m", 1)], ids=["probe", "load"])
async def test_silence_is_unavailable(call: Callable[[BentomlBackend], Awaitable[None]]) -> None:
    """A BentoML that takes longer than its timeout is BACKEND_UNAVAILABLE where no caller's deadline is nearer."""
    async with _predictor("200 OK", "{}", silent=True) as backend:
        with pytest.raises(PlatformError) as caught:
            await call(backend)

    assert caught.value.reason_name == "BACKEND_UNAVAILABLE"


async def test_probe_believes_only_success() -> None:
    """A BentoML that answers that it is not ready is BACKEND_UNAVAILABLE."""
    async with _predictor("503 Service Unavailable", "") as backend:
        with pytest.raises(PlatformError) as caught:
            await backend.probe()

    assert caught.value.reason_name == "BACKEND_UNAVAILABLE"
