"""Where the time of a call goes: the processor time of each of the server's threads, split by samples of what it was doing."""

from __future__ import annotations

import re
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks import cores
from benchmarks.bench import Bench
from benchmarks.load import run
from benchmarks.measure import LoadError
from benchmarks.tools import TOOLS, make_environment

CALLERS = 50
RATE = 500
PY_SPY = "py-spy==0.4.3"
WAITING = "waiting"
CORE = "gRPC's own threads"
THREAD = re.compile(r"thread \((\d+)\)")

# What a frame belongs to, by a piece of its function and file, the first that fits. Innermost frames come first, so a library
# that we call counts for itself if it is named here, and for the part of ours that called it if it is not.
PARTS = (
    ("/selectors.py", WAITING),
    ("/threading.py", WAITING),
    ("/concurrent/futures/thread.py", WAITING),
    ("/aiosqlite/core.py", WAITING),
    ("onnxruntime", "model: ONNX Runtime"),
    ("ml_platform_server/serving/runtimes", "model: arrays in and out"),
    ("ml_platform_server/backends/feast", "features: read and decode"),
    ("ml_platform_server/serving/features", "features: join with what was sent"),
    ("ml_platform_server/serving/outputs", "reply: build the message"),
    ("ml_platform_server/serving/rpc/replies", "reply: build the message"),
    ("ml_platform_server/serving/inputs", "request: read the inputs"),
    ("ml_platform_server/struct_values", "request: read the inputs"),
    ("ml_platform_server/serving/dynamic_batching", "batching"),
    ("ml_platform_server/serving", "engine: routing and the rest"),
    ("ml_platform_server/interceptors/auth", "authentication"),
    ("ml_platform_server/interceptors/validation", "validation"),
    ("ml_platform_server/interceptors/access_log", "access log"),
    ("ml_platform_server/logs", "access log"),
    ("structlog", "access log"),
    ("ml_platform_server/interceptors/metrics", "metrics"),
    ("ml_platform_server/observability", "metrics"),
    ("ml_platform_server/interceptors", "other interceptors"),
    ("ml_platform_server/event_loop", "gRPC and the event loop"),
    ("ml_platform_server/services", "service method, parsing and serialising"),
    ("ml_platform_server/routes", "service method, parsing and serialising"),
    ("ml_platform_server/transport", "gRPC and the event loop"),
)
# What a stack counts for that has none of those frames.
REST = (
    ("grpc", "gRPC and the event loop"),
    ("asyncio", "gRPC and the event loop"),
    ("ml_platform_server", "other parts of the server"),
)


def measure(bench: Bench) -> dict[str, Any]:
    """Load the server with 50 callers and take samples meanwhile."""
    server, seconds = bench.pair.server[-1], bench.effort.open_seconds
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "stacks.txt"
        sampling = threading.Thread(target=_record, args=(server.pid, seconds, found))
        before = _thread_seconds(server)
        sampling.start()
        limit = ("--duration", f"{seconds + 2}s")
        run(bench.pair.predict, bench.pair.server, callers=CALLERS, limit=limit, helpers=bench.valkey)
        sampling.join()
        used = {thread: after - before.get(thread, 0.0) for thread, after in _thread_seconds(server).items()}
        if not found.exists():
            raise LoadError("py-spy took no samples: it may need the right to trace other processes.")
        samples = count(found.read_text().splitlines())
    shares = split(used, samples)
    for part, share in shares.items():
        print(f"{100 * share:5.1f} %  {part}")
    return {"callers": CALLERS, "samples": sum(each.total() for each in samples.values()), "shares": shares}


def count(lines: Iterable[str]) -> dict[int, Counter[str]]:
    """Count samples by thread and part, waiting left out.

    A line is a stack, outermost frame first, frames parted by semicolons, and how often it was seen.
    """
    counts: dict[int, Counter[str]] = {}
    for line in lines:
        stack, _, times = line.rpartition(" ")
        frames = stack.split(";")
        thread = THREAD.match(frames[0])
        part = _part(frames[::-1])
        if thread and part != WAITING:
            counts.setdefault(int(thread[1]), Counter())[part] += int(times)
    return counts


def split(used: Mapping[int, float], samples: Mapping[int, Counter[str]]) -> dict[str, float]:
    """Split each thread's processor time by its samples; gives each part's share of all of it, the largest first.

    A thread without samples is one that Python knows nothing of.
    """
    parts: Counter[str] = Counter()
    for thread, seconds in used.items():
        seen = samples.get(thread, Counter({CORE: 1}))
        for part, times in seen.items():
            parts[part] += seconds * times / seen.total()  # type: ignore[assignment]  # a Counter takes any number
    return {part: seconds / parts.total() for part, seconds in parts.most_common() if seconds}


def _part(frames: Sequence[str]) -> str:
    """What a stack counts for, its innermost frame first."""
    for pieces in (PARTS, REST):
        for frame in frames:
            for piece, part in pieces:
                if piece in frame:
                    return part
    return "other"


def _thread_seconds(process: psutil.Process) -> dict[int, float]:
    return {thread.id: thread.user_time + thread.system_time for thread in process.threads()}


def _record(pid: int, seconds: float, target: Path) -> None:
    """Take samples, from the load's cores. Each stops the server for a moment, so nothing else is measured meanwhile."""
    program = TOOLS / "py-spy" / "bin" / "py-spy"
    if not program.exists():
        make_environment(TOOLS / "py-spy", [PY_SPY])
    options = ["--format", "raw", "--rate", str(RATE), "--duration", str(round(seconds)), "--full-filenames", "--threads"]
    command = [str(program), "record", *options, "--pid", str(pid), "--output", str(target)]
    with cores.on(cores.LOAD):
        subprocess.run(command, check=False, capture_output=True)
