"""What it gives that gRPC's threads take long turns: the echo and Predict, each with it and as gRPC comes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks import model
from benchmarks.bench import Bench
from benchmarks.load import Target, run
from benchmarks.measure import Run
from benchmarks.pair import Pair, first_answer, predict_requests, start_echo

CALLERS = (1, 8, 50)
WARM_SECONDS = 1.0
BATCH_SCHEDULING = "ML_PLATFORM_SERVER__BATCH_SCHEDULING"
# The targets by name, in the order of the page.
ECHO, ECHO_LONG, PREDICT, PREDICT_LONG = "echo", "echo, long turns", "Predict, short turns", "Predict"


def measure(bench: Bench) -> dict[str, Any]:
    """Load all four in turn, some rounds; at the end the server runs as it did before."""
    stack, pair = bench.stack, bench.pair
    patient = "patient_echo"
    host = start_echo(stack, str(stack.state.folder("load") / "reply.bin"), patient, "long-turns")
    runs: dict[str, list[dict[str, Any]]] = {str(callers): [] for callers in CALLERS}
    try:
        for _ in range(bench.effort.few_rounds):
            for name, setting in ((PREDICT_LONG, "true"), (PREDICT, "false")):
                _restart(bench, setting)
                for callers in CALLERS:
                    runs[str(callers)].append(_predict(bench, pair, name, callers))
            for callers in CALLERS:
                for name, tree, at in ((ECHO, "echo", pair.echo.host), (ECHO_LONG, patient, host)):
                    target = replace(pair.echo, name=name, host=at)
                    runs[str(callers)].append(_load(bench, target, stack.tree(tree), callers).as_json())
    finally:
        stack.stop(patient)
        _restart(bench, "true")
        bench.renew()
    return {"runs": runs}


def _restart(bench: Bench, setting: str) -> None:
    bench.stack.stop("server")
    bench.stack.start("server", settings={BATCH_SCHEDULING: setting})
    first_answer(bench.stack, predict_requests(bench.stack, model.ONNX_MODEL)[0])
    limit = ("--duration", f"{WARM_SECONDS}s")
    run(bench.pair.predict, bench.stack.tree("server"), callers=CALLERS[-1], limit=limit, helpers=bench.valkey)


def _predict(bench: Bench, pair: Pair, name: str, callers: int) -> dict[str, Any]:
    found = _load(bench, replace(pair.predict, name=name), bench.stack.tree("server"), callers)
    print(f"{name}, {callers} callers: {found.rate:.0f}/s, {found.cpu:.0f} us a call", flush=True)
    return found.as_json()


def _load(bench: Bench, target: Target, server: Any, callers: int) -> Run:  # noqa: ANN401  # psutil's processes
    limit = ("--duration", f"{bench.effort.seconds}s")
    return run(target, server, callers=callers, limit=limit, helpers=bench.valkey)
