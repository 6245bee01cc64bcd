"""A model that BentoML runs: asked through the platform by 50 callers, and asked by as many callers directly, a row a call.

BentoML and the platform's server share the one core in the first case; BentoML has it for itself in the second.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks import driver, model, payloads
from benchmarks.bench import Bench
from benchmarks.driver import Call
from benchmarks.load import run
from benchmarks.pair import first_answer, predict_requests, predict_target

CALLERS = 50


def measure(bench: Bench) -> dict[str, Any]:
    """Ask both ways in turn, some rounds."""
    stack, pair, effort = bench.stack, bench.pair, bench.effort
    version = stack.facts.versions[model.SKLEARN_MODEL][0]
    stack.start("bentoml")
    try:
        stack.deploy(model.SKLEARN_MODEL, version, bentoml=True)
        requests = predict_requests(stack, model.SKLEARN_MODEL)
        first_answer(stack, requests[0])
        behind = predict_target(stack, "behind_the_door", requests)
        direct = _direct(bench, version)
        bentoml = stack.tree("bentoml")
        runs = []
        for _ in range(effort.few_rounds):
            limit = ("--duration", f"{effort.seconds}s")
            ours = run(behind, [*pair.server, *bentoml], callers=CALLERS, limit=limit, helpers=bench.valkey)
            alone = driver.closed_loop(direct, bentoml, callers=CALLERS, seconds=effort.seconds)
            runs += [ours.as_json(), alone.as_json()]
            print(f"BentoML: {ours.rate:.0f}/s behind this door, {alone.rate:.0f}/s called directly", flush=True)
        return {"callers": CALLERS, "runs": runs}
    finally:
        stack.stop("bentoml")


def _direct(bench: Bench, version: int) -> Call:
    """One row a call, with all that the model takes: nobody looks up features there."""
    stack = bench.stack
    facts = stack.facts
    bodies = [
        {"model_name": model.SKLEARN_MODEL, "version": version, "columns": {name: [row[name]] for name in facts.columns}}
        for row in facts.rows
    ]
    sent = payloads.write_raw(stack.state.folder("load") / "direct.bin", [json.dumps(each).encode() for each in bodies])
    return Call("direct", stack.layout.addresses.address("bentoml"), "/predict_batch", sent, kind="http")
