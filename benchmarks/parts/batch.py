"""Many rows a call: rows a second of BatchPredict with features and of ModelInfer, beside ONNX Runtime alone in one thread."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import grpc

from benchmarks import batch_requests, cores, driver
from benchmarks.batch_requests import Request
from benchmarks.bench import Bench
from benchmarks.driver import Call
from benchmarks.measure import LoadError
from benchmarks.pair import metadata
from benchmarks.payloads import write
from deploy.local.config import ROOT

IN_FLIGHT = 4


def measure(bench: Bench) -> dict[str, Any]:
    """For each size of a batch, ask all three in turn, some rounds."""
    bench.pair  # noqa: B018  # starts the server
    runs = []
    for rows in bench.effort.batch_sizes:
        ours = {name: _caller(bench, name, make(bench.stack.facts, rows)) for name, make in batch_requests.KINDS.items()}
        for _ in range(bench.effort.few_rounds):
            runs += _bare(bench, rows)
            for name, call in ours.items():
                run = call()
                runs.append({**run, "target": name, "rows": rows, "rate": run["rate"] * rows, "cpu": run["cpu"] / rows})
        told = ", ".join(f"{each['target']} {each['rate']:,.0f}" for each in runs[-2 - len(ours) :])
        print(f"rows a second, {rows} a call: {told}", flush=True)
    return {"in_flight": IN_FLIGHT, "runs": runs}


def _caller(bench: Bench, name: str, request: Request) -> Callable[[], dict[str, Any]]:
    """Make sure that the server answers this request rightly; gives what loads it."""
    stack = bench.stack
    with grpc.insecure_channel(stack.target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(request.method)
        key = (("authorization", f"Bearer {stack.api_key}"),)
        answer = ask(request.message.SerializeToString(), metadata=key, timeout=60.0)
    if trouble := request.trouble(answer):
        raise LoadError(f"{name} answers wrongly: {trouble}")
    sent = write(stack.state.folder("load") / f"{name}.bin", [request.message])
    call = Call(name, stack.target, request.method, sent, metadata(stack))

    def load() -> dict[str, Any]:
        seconds = bench.effort.seconds
        return driver.closed_loop(call, bench.pair.server, callers=IN_FLIGHT, seconds=seconds, helpers=bench.valkey).as_json()

    return load


def _bare(bench: Bench, rows: int) -> list[dict[str, Any]]:
    """ONNX Runtime alone, on the server's core."""
    command = [sys.executable, "-m", "benchmarks.bare_onnx", bench.stack.facts.folder, str(rows), str(bench.effort.seconds)]
    with cores.on(cores.SERVER):
        done = subprocess.run(command, check=True, cwd=ROOT, capture_output=True, text=True)
    printed = json.loads(done.stdout)
    return [{"target": name, "rows": rows, "rate": printed[key]} for name, key in (("bare", "rate"), ("bare_alone", "alone"))]
