"""One worker by itself: how long from its start until it is ready and until it has answered, and the memory it holds."""

from __future__ import annotations

import time
from typing import Any

from benchmarks import model
from benchmarks.bench import Bench
from benchmarks.load import run
from benchmarks.pair import first_answer, predict_requests

CALLERS = 50
MIB = 2**20


def measure(bench: Bench) -> dict[str, Any]:
    """Start the server some times; after the last start, load it and see what it holds then."""
    stack, runs = bench.stack, []
    bench.pair  # noqa: B018  # the model is in the cache of a server that has answered before
    request = predict_requests(stack, model.ONNX_MODEL)[0]
    for _ in range(bench.effort.starts):
        stack.stop("server")
        begun = time.monotonic()
        ready = stack.start("server")
        first_answer(stack, request)
        runs.append({"ready": ready, "answered": time.monotonic() - begun, "memory_mib": _memory(bench)})
    bench.renew()
    limit = ("--duration", f"{bench.effort.seconds}s")
    run(bench.pair.predict, bench.pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey)
    print(f"ready after {runs[-1]['ready']:.1f} s, {runs[-1]['memory_mib']:.0f} MiB, under load {_memory(bench):.0f} MiB")
    return {"runs": runs, "loaded_memory_mib": _memory(bench), "processes": len(stack.tree("server"))}


def _memory(bench: Bench) -> float:
    """The memory that the server's processes hold, in MiB."""
    return sum(float(process.memory_info().rss) for process in bench.stack.tree("server")) / MIB
