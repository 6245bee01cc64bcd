"""Load by the program in driver/: open loops, whose times count from the intended send, and closed ones of big or HTTP calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import tools
from benchmarks.load import MOST_CONNECTIONS
from benchmarks.measure import LoadError, Run, execute, refuse_failures


@dataclass(frozen=True)
class Call:
    """What is called: a gRPC method (`/package.Service/Method`) or the path of a URL, with requests made before."""

    name: str
    address: str
    method: str
    payloads: Path
    metadata: Path | None = None
    kind: str = "grpc"


def closed_loop(
    call: Call, server: Sequence[psutil.Process], *, callers: int, seconds: float, helpers: Sequence[psutil.Process] = ()
) -> Run:
    """Let some callers call again and again.

    Raises:
        LoadError: nothing was called, or a call failed.
    """
    options = ("-callers", str(callers), "-connections", str(min(callers, MOST_CONNECTIONS)))
    return _run(call, server, helpers, callers=callers, options=(*options, "-duration", f"{seconds}s"))


def open_loop(
    call: Call,
    server: Sequence[psutil.Process],
    *,
    rate: float,
    seconds: float,
    helpers: Sequence[psutil.Process] = (),
    tolerant: bool = False,
) -> Run:
    """Call at a rate, at random moments, whatever comes of it.

    Raises:
        LoadError: nothing was called, or a call failed and that is not to be tolerated.
    """
    options = ("-rate", str(rate), "-poisson", "-connections", str(MOST_CONNECTIONS), "-duration", f"{seconds}s")
    return _run(call, server, helpers, callers=0, options=options, tolerant=tolerant)


def _run(
    call: Call,
    server: Sequence[psutil.Process],
    helpers: Sequence[psutil.Process],
    *,
    callers: int,
    options: Sequence[str],
    tolerant: bool = False,
) -> Run:
    metadata = ("-metadata", str(call.metadata)) if call.metadata else ()
    what = ("-kind", call.kind, "-address", call.address, "-method", call.method, "-payloads", str(call.payloads))
    usage = execute([str(tools.driver()), *what, *metadata, *options], server, helpers)
    told = usage.printed
    errors = told.pop("errors")
    if not told["calls"]:
        raise LoadError(f"No call was made to {call.name}.")
    times = {name: told[name] for name in ("calls", "failed", "seconds", "p50", "p95", "p99", "slowest", "lag99")}
    found = Run(
        target=call.name,
        callers=callers,
        rate=(told["calls"] - told["failed"]) / told["seconds"],
        cpu=usage.server / told["calls"] * 1e6,
        server_busy=usage.server / told["seconds"],
        load_busy=usage.load_busy,
        **times,
    )
    return found if tolerant else refuse_failures(found, errors)
