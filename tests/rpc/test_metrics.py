"""What a scrape tells after real calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ml_platform_server.interceptors.access_log import AccessLog
from ml_platform_server.interceptors.correlation_id import CorrelationId
from ml_platform_server.interceptors.errors import Errors
from ml_platform_server.observability.collectors import registry_of
from ml_platform_server.observability.exposition import MetricsServer, pages_of
from ml_platform_server.observability.recorders import CallMetrics, PredictionMetrics
from tests.support.echo import KINDS, NAME, Echo, EchoClient, EchoService
from tests.support.observed import echo_behind


class Observed:
    """An echo service whose calls are counted, a client of it, and the address to scrape."""

    def __init__(self) -> None:
        self.calls = CallMetrics()
        self.service = EchoService()
        self.client: EchoClient
        self.port = 0

    async def counted(self, count: int) -> None:
        """Wait until so many calls have ended: a caller may have its answer before that."""
        for _ in range(500):
            if sum(recorder.seconds.count for recorder in self.calls) >= count:
                break
            await asyncio.sleep(0.01)

    async def scrape(self) -> dict[tuple[str, ...], float]:
        """Every sample of calls by its name and the values of its labels."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"http://127.0.0.1:{self.port}/metrics")
        samples = [sample for family in text_string_to_metric_families(answer.text) for sample in family.samples]
        return {
            (sample.name, *sample.labels.values()): sample.value for sample in samples if sample.name.startswith("grpc_server")
        }


@pytest.fixture
async def observed() -> AsyncIterator[Observed]:
    observed = Observed()
    server = MetricsServer(page=pages_of(registry_of(calls=observed.calls, predictions=PredictionMetrics())))
    observed.port = await server.listen("127.0.0.1", 0)
    async with echo_behind((CorrelationId(), AccessLog(observed.calls), Errors()), observed.service) as channel:
        observed.client = EchoClient(channel)
        yield observed
    await server.close()


@pytest.mark.parametrize(
    ("kind", "grpc_type"), list(zip(KINDS, ("unary", "server_stream", "client_stream", "bidi_stream"), strict=True))
)
async def test_a_scrape_tells_exactly_what_was_called(observed, kind, grpc_type):
    """Calls of every kind are counted by their code, and timed."""
    for text in ("a", "b", "raise", "c", "raise"):
        try:
            await observed.client.call(kind, Echo(text=text), metadata=())
        except grpc.aio.AioRpcError:
            assert text == "raise"
    await observed.counted(5)
    told = await observed.scrape()
    by_code = {key: value for key, value in told.items() if key[0] == "grpc_server_handled_total" and kind in key and value}
    assert by_code == {
        ("grpc_server_handled_total", "OK", kind, NAME, grpc_type): 3.0,
        ("grpc_server_handled_total", "INTERNAL", kind, NAME, grpc_type): 2.0,
    }
    assert told["grpc_server_started_total", kind, NAME, grpc_type] == 5.0
    assert told["grpc_server_handling_seconds_count", kind, NAME, grpc_type] == 5.0
    assert 0 < told["grpc_server_handling_seconds_sum", kind, NAME, grpc_type] < 5


async def test_a_call_that_runs_is_started_and_not_handled(observed):
    """The calls that run are those that started and have not ended."""
    call = observed.client.start("Unary", Echo(text="wait"), metadata=())
    await asyncio.wait_for(observed.service.waiting.wait(), 5)
    told = await observed.scrape()
    assert told["grpc_server_started_total", "Unary", NAME, "unary"] == 1.0
    assert told["grpc_server_handled_total", "OK", "Unary", NAME, "unary"] == 0.0
    observed.service.go_on.set()
    await call
    await observed.counted(1)
    assert (await observed.scrape())["grpc_server_handled_total", "OK", "Unary", NAME, "unary"] == 1.0


async def test_methods_that_do_not_exist_are_told_together(observed):
    """A caller that makes up methods makes no series."""
    for number in range(5):
        method = observed.client.channel.unary_unary(f"/made.up.v{number}/Method")
        with pytest.raises(grpc.aio.AioRpcError):
            await method(b"")
    await observed.counted(5)
    told = {key: value for key, value in (await observed.scrape()).items() if "unknown" in key and value}
    assert told["grpc_server_handled_total", "UNIMPLEMENTED", "unknown", "unknown", "bidi_stream"] == 5.0
    assert not [key for key in await observed.scrape() if "made.up" in str(key)]
