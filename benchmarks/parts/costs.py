"""What is seen from outside costs: Predict with everything on, and without the access log, without metrics, and with traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks import model
from benchmarks.bench import Bench
from benchmarks.load import run
from benchmarks.pair import first_answer, predict_requests
from deploy.local import ports
from deploy.local.config import HOST

CALLERS = 50
WARM_SECONDS = 1.0


def measure(bench: Bench) -> dict[str, Any]:
    """Start the server in each way in turn, some rounds; at the end it runs as it did before."""
    stack, pair = bench.stack, bench.pair
    request = predict_requests(stack, model.ONNX_MODEL)[0]
    runs = []
    try:
        for _ in range(bench.effort.few_rounds):
            for name, settings in _ways().items():
                stack.stop("server")
                stack.start("server", settings=settings)
                first_answer(stack, request)
                for seconds in (WARM_SECONDS, bench.effort.seconds):
                    limit = ("--duration", f"{seconds}s")
                    found = run(pair.predict, stack.tree("server"), callers=CALLERS, limit=limit, helpers=bench.valkey)
                runs.append({**found.as_json(), "target": name})
                print(f"{name}: {found.cpu:.0f} us a call, {found.rate:.0f}/s", flush=True)
    finally:
        stack.stop("server")
        stack.start("server")
        first_answer(stack, request)
        bench.renew()
    return {"callers": CALLERS, "runs": runs}


def _ways() -> dict[str, Mapping[str, str]]:
    """The server's settings that differ, by what is told of them."""
    nobody = f"http://{HOST}:{ports.free_ports(1)[0]}"
    return {
        "everything": {},
        "without the access log": {"ML_PLATFORM_LOG__LEVEL": "WARNING"},
        "without metrics": {"ML_PLATFORM_SERVER__METRICS_PORT": ""},
        "with traces, 1 call in 100": {"ML_PLATFORM_TRACING__ENDPOINT": nobody, "ML_PLATFORM_TRACING__SAMPLE_RATIO": "0.01"},
    }
