"""Two versions of a model swapped every second under load: no call may fail, and the slowest must hardly notice."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Any, Self

import grpc

from benchmarks import deployments, model
from benchmarks.bench import Bench
from benchmarks.load import run
from benchmarks.measure import LoadError
from benchmarks.pair import predict_requests
from ml_platform.v1 import deployments_pb2, predictions_pb2_grpc

CALLERS = 50
SWAP_SECONDS = 1.0
LOOK_SECONDS = 0.1


def measure(bench: Bench) -> dict[str, Any]:
    """Load without and with swaps in turn, some rounds."""
    pair, effort = bench.pair, bench.effort
    limit = ("--duration", f"{effort.open_seconds}s")
    runs = []
    for _ in range(effort.few_rounds):
        still = run(pair.predict, pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey, tolerant=True)
        with _Swapping(bench) as swapping:
            moved = run(pair.predict, pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey, tolerant=True)
        runs += [{**still.as_json(), "target": "still"}, {**moved.as_json(), "target": "swapping", "swaps": swapping.seen}]
        print(f"{swapping.seen} swaps seen: {moved.failed} failed, p99 {moved.p99:.1f} ms, without swaps {still.p99:.1f} ms")
    if not any(each.get("swaps") for each in runs):
        raise LoadError("No answer ever came from the other version, so nothing was swapped.")
    return {"runs": runs}


class _Swapping:
    """Swaps the versions in the store as long as the block lasts. `seen` counts how often the answers' version changed."""

    def __init__(self, bench: Bench) -> None:
        self._stack = bench.stack
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=asyncio.run, args=(self._swap(),)), threading.Thread(target=self._look)]
        self.seen = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        one = self._stack.facts.versions[model.ONNX_MODEL][0]
        self._stack.deploy(model.ONNX_MODEL, one)

    async def _swap(self) -> None:
        one, two = self._stack.facts.versions[model.ONNX_MODEL]
        async with deployments.opened(self._stack.store_url) as database:
            while not await asyncio.to_thread(self._ended.wait, SWAP_SECONDS):
                one, two = two, one
                await deployments.activate(database, model.ONNX_MODEL, one, deployments_pb2.SERVING_RUNTIME_ONNX)

    def _look(self) -> None:
        request = predict_requests(self._stack, model.ONNX_MODEL)[0]
        key = (("authorization", f"Bearer {self._stack.api_key}"),)
        before = 0
        with grpc.insecure_channel(self._stack.target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub = predictions_pb2_grpc.PredictionServiceStub(channel)
            while not self._ended.wait(LOOK_SECONDS):
                with contextlib.suppress(grpc.RpcError):  # Failures are counted by the load.
                    version = stub.Predict(request, metadata=key, timeout=10.0).model_version
                    self.seen += before not in (0, version)
                    before = version
