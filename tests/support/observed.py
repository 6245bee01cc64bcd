"""The echo service behind a chain of the test's choice, and without the rest of the frame."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc

from ml_platform_server.call import ANONYMOUS
from ml_platform_server.interceptors.chain import Chain, Interceptor
from ml_platform_server.interceptors.validation.interceptor import Validation
from ml_platform_server.routes import Admission, fallback, routes_of
from ml_platform_server.transport.grpc_aio.handlers import register, register_fallback
from tests.support.echo import ECHO, EchoService


@asynccontextmanager
async def echo_behind(interceptors: Sequence[Interceptor], service: EchoService) -> AsyncIterator[grpc.aio.Channel]:
    """Serve the echo service until the block ends; gives a channel to it."""
    server = grpc.aio.server()
    chain = Chain((*interceptors, Validation(largest=2**24, most_bytes=2**26)))
    anyone = Admission(
        identify=lambda _: ANONYMOUS,
        allowed=lambda _: lambda _: True,
        full=lambda _: lambda: False,
        admitted=chain.wrap,
        waiting=chain.wrap,
    )
    register(server, routes_of([(ECHO, service)], admission=anyone))
    register_fallback(server, fallback(chain.wrap))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(grace=None)
