"""Other servers with the same model, beside Predict in the same run. They look up no features: every column is sent to them."""

from __future__ import annotations

import subprocess
from typing import Any

from benchmarks import driver, load
from benchmarks.bench import Bench
from benchmarks.driver import Call
from benchmarks.measure import LoadError, Run
from benchmarks.peer_servers import PEERS, Peer
from deploy.local.errors import StackError

CALLERS = 50
WARM_SECONDS = 1.0
LONGEST_REASON = 500


def measure(bench: Bench) -> dict[str, Any]:
    """Install, start and load each in turn with Predict. What cannot be installed or does not answer is told with the reason."""
    bench.pair  # noqa: B018  # starts the server
    return {"callers": CALLERS, "peers": {peer.name: _measure(bench, peer) for peer in PEERS}}


def _measure(bench: Bench, peer: Peer) -> dict[str, Any]:
    try:
        packages = peer.server.install()
        return {"packages": packages, "runs": _runs(bench, peer)}
    except (StackError, LoadError) as error:
        reason = str(error)
    except subprocess.CalledProcessError as error:
        reason = f"cannot be installed: {error.stderr}"
    print(f"{peer.name}: {reason}", flush=True)
    return {"reason": reason[:LONGEST_REASON]}


def _runs(bench: Bench, peer: Peer) -> list[dict[str, Any]]:
    runs = []
    try:
        called = peer.start(bench.stack)
        _load(bench, peer, called, WARM_SECONDS)
        for _ in range(bench.effort.few_rounds):
            theirs = _load(bench, peer, called, bench.effort.seconds)
            limit = ("--duration", f"{bench.effort.seconds}s")
            ours = load.run(bench.pair.predict, bench.pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey)
            runs += [theirs.as_json(), ours.as_json()]
            print(f"{peer.name}: {theirs.rate:.0f}/s, predict {ours.rate:.0f}/s", flush=True)
    finally:
        bench.stack.stop(peer.name)
    return runs


def _load(bench: Bench, peer: Peer, called: load.Target | Call, seconds: float) -> Run:
    server = bench.stack.tree(peer.name)
    if isinstance(called, Call):
        return driver.closed_loop(called, server, callers=CALLERS, seconds=seconds)
    return load.run(called, server, callers=CALLERS, limit=("--duration", f"{seconds}s"))
