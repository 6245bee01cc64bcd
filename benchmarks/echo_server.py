"""The ceiling: a bare grpc.aio server that answers every unary call with the same bytes and reads nothing.

Run as `python -m benchmarks.echo_server reply.bin`; it prints its port and serves until SIGTERM. With `long-turns` as a second
word its threads take long turns, as the server's do (docs/adr/0006).
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

if "long-turns" in sys.argv[2:]:
    from ml_platform_server.scheduling import take_long_turns

    take_long_turns()  # Before gRPC is imported.

import grpc

HOST = "127.0.0.1"


class _Echo(grpc.GenericRpcHandler):
    """Takes every method for the echo; with no (de)serialiser, requests and replies stay bytes."""

    def __init__(self, reply: bytes) -> None:
        async def answer(_request: bytes, _context: object) -> bytes:
            return reply

        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, _handler_call_details: object) -> grpc.RpcMethodHandler[bytes, bytes]:
        """Give the one handler there is."""
        return self._handler


async def serve(reply: bytes) -> None:
    """Serve on any free port until SIGTERM."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Echo(reply),))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    print(port, flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes()))
