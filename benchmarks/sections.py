"""The sections of the results page: each part's raw results as a paragraph and a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import plots
from benchmarks.figures import SERVERS, peer_title
from benchmarks.measure import medians, of_target, ratio
from benchmarks.parts.turns import ECHO, ECHO_LONG, PREDICT, PREDICT_LONG

Found = Mapping[str, Any]

CURVE = (
    "Times are echo / Predict. The last three columns tell how busy the core of the echo, that of the server and that "
    "of the load (ghz and Valkey) were: where the load's is near 100 %, the load is the limit and the ratio of calls "
    "a second flatters; the processor time a call never does."
)
OPEN_LOOP = (
    "Calls come at random moments (Poisson), at half the rate that Predict can do in a closed loop, and times count "
    "from the moment a call was due. In 99 of 100 calls the driver itself was late by no more than the last column; "
    "that is part of the times of both."
)
PEERS = (
    "Each server alone on the server's core, in turn with Predict. They are sent every column and look up no "
    "features. Those that can run any code were measured with the model in scikit-learn, as they come, and in ONNX "
    "Runtime, put in by hand. Times and processor time are theirs / ours."
)
BATCH = (
    "The server has one core; `bare` is ONNX Runtime in one thread on the same core, given the same rows as arrays "
    "that were made before, as many a run as the call has, and one a run. BatchPredict gets columns and looks up the "
    "features; ModelInfer gets raw tensors."
)
BENTOML = (
    "The same model in scikit-learn, run by the service in deploy/bentoml. Behind the door, BentoML and the "
    "platform's server share the core that BentoML has for itself when it is called directly."
)
WORKER = (
    "Everything is on and the model is in the server's cache. Ready is when the health service says SERVING for "
    "predictions; memory is what is resident, after the first answer and after load from 50 callers."
)
COSTS = (
    "The server was started anew for each run. Everything is what all other figures are measured with: a log line for every call "
    "and metrics. Traces go to a collector that does not answer, so they cost what they cost the server."
)
TURNS = (
    "The server keeps gRPC's threads from interrupting the event loop "
    "([ADR 0006](../../docs/adr/0006-threads-take-long-turns.md)); the echo of all other figures runs as `grpc.aio` comes. "
    "Here are both, each with that and without."
)
PROFILE = (
    "The processor time of each of the server's threads, split by samples of its stack (py-spy): each sample counts for the "
    "innermost of our parts, or of the libraries named, on the stack."
)


def curve(found: Found, folder: Path) -> list[str]:
    """The curve over the number of callers."""
    plots.curve(folder / "curve.svg", found)
    rows = []
    for callers, runs in found["runs"].items():
        echo, ours = (medians(of_target(runs, target)) for target in ("echo", "predict"))
        rate, cpu = (ratio(runs, name, ours="predict", other="echo") for name in ("rate", "cpu"))
        rows.append(
            [callers, f"{echo['rate']:.0f}", f"{ours['rate']:.0f}", f"**{rate:.2f}**"]
            + [f"{echo[name]:.2f} / {ours[name]:.2f}" for name in ("p50", "p95", "p99")]
            + [f"{echo['cpu']:.0f} / {ours['cpu']:.0f}", f"**{cpu:.2f}**"]
            + [f"{100 * each:.0f} %" for each in (echo["server_busy"], ours["server_busy"], ours["load_busy"])]
        )
    headings = ["callers", "echo/s", "Predict/s", "ratio", "p50 ms", "p95 ms", "p99 ms", "CPU a call µs", "ratio"]
    return [
        f"Medians of {found['rounds']} rounds of {found['seconds']:g} s, echo and Predict in turn. {CURVE}",
        table([*headings, "echo busy", "server busy", "load busy"], rows),
    ]


def open_loop(found: Found, _folder: Path) -> list[str]:
    """The open loop."""
    rows = [_times(name, medians(of_target(found["runs"], name))) for name in ("echo", "predict")]
    return [
        f"{found['rate']:.0f} calls a second for {found['seconds']:g} s; Predict did {found['capacity']:.0f} before. {OPEN_LOOP}",
        table(["target", "p50 ms", "p95 ms", "p99 ms", "slowest ms", "own lag p99 ms"], rows),
    ]


def peers(found: Found, folder: Path) -> list[str]:
    """The other servers."""
    plots.peers(folder / "peers.svg", found)
    rows, missing = [], []
    packages: dict[str, str] = {}
    for name, peer in found["peers"].items():
        if "runs" not in peer:
            missing.append(f"- {peer_title(name)} was not measured: {peer['reason']}")
            continue
        theirs, ours = (medians(of_target(peer["runs"], target)) for target in (name, "predict"))
        over = ratio(peer["runs"], "rate", ours="predict", other=name)
        cells = [f"{theirs['rate']:.0f}", f"{ours['rate']:.0f}", f"**{over:.1f}**"]
        rows.append(
            [peer_title(name), *cells, f"{theirs['p99']:.0f} / {ours['p99']:.0f}", f"{theirs['cpu']:.0f} / {ours['cpu']:.0f}"]
        )
        packages[SERVERS[name.partition("_")[0]]] = ", ".join(peer["packages"])
    return [
        f"{found['callers']} callers. {PEERS}",
        table(["server", "calls/s", "Predict/s", "Predict over it", "p99 ms", "CPU a call µs"], rows),
        *(["\n".join(missing)] if missing else []),
        "\n".join(f"- {server}: {versions}" for server, versions in packages.items()),
    ]


def batch(found: Found, _folder: Path) -> list[str]:
    """Many rows a call."""
    rows = []
    for size in sorted({each["rows"] for each in found["runs"]}):
        runs = [each for each in found["runs"] if each["rows"] == size]
        for target in ("batch_predict", "model_infer"):
            bare, alone, ours = (
                median(each["rate"] for each in of_target(runs, name)) for name in ("bare", "bare_alone", target)
            )
            over = [f"**{ratio(runs, 'rate', ours=target, other=other):.2f}**" for other in ("bare", "bare_alone")]
            rows.append([size, target, f"{bare:,.0f}", f"{alone:,.0f}", f"{ours:,.0f}", *over])
    return [
        f"{found['in_flight']} calls in flight. {BATCH}",
        table(["rows a call", "RPC", "bare rows/s", "bare, a row a run", "rows/s", "ratio", "over a row a run"], rows),
    ]


def bentoml(found: Found, _folder: Path) -> list[str]:
    """BentoML behind the door."""
    behind, direct = (medians(of_target(found["runs"], name)) for name in ("behind_the_door", "direct"))
    over = ratio(found["runs"], "rate", ours="behind_the_door", other="direct")
    rows = [_rate("Predict, BentoML behind it", behind), _rate("BentoML, a row a call", direct)]
    return [
        f"{found['callers']} callers. {BENTOML} Behind the door it is **{over:.1f} times** as fast.",
        table(["target", "calls/s", "p50 ms", "p99 ms", "CPU a call µs"], rows),
    ]


def swap(found: Found, _folder: Path) -> list[str]:
    """Swaps under load."""
    rows = []
    for name in ("still", "swapping"):
        runs = of_target(found["runs"], name)
        told, failed = medians(runs), sum(each["failed"] for each in runs)
        swaps = sum(each.get("swaps", 0) for each in runs)
        rows.append([name, f"{told['rate']:.0f}", f"{told['p50']:.1f}", f"{told['p99']:.1f}", f"{swaps}", f"{failed}"])
    return [
        "50 callers; the active version goes back and forth in the store every second, seen by the change of version in replies.",
        table(["run", "calls/s", "p50 ms", "p99 ms", "swaps seen", "failed"], rows),
    ]


def worker(found: Found, _folder: Path) -> list[str]:
    """One worker."""
    told = medians(found["runs"])
    row = [f"{told['ready']:.1f}", f"{told['answered']:.1f}", f"{told['memory_mib']:.0f}", f"{found['loaded_memory_mib']:.0f}"]
    return [
        f"Medians of {len(found['runs'])} starts. {WORKER}",
        table(["ready after s", "answered after s", "MiB then", "MiB after load"], [row]),
    ]


def goals(found: Found, _folder: Path) -> list[str]:
    """The burst or the steady load."""
    rows = [[f"{each['calls']}", f"{each['failed']}", *_times("", each)[1:5]] for each in found["runs"]]
    return [table(["calls", "failed", "p50 ms", "p95 ms", "p99 ms", "slowest ms"], rows)]


def costs(found: Found, _folder: Path) -> list[str]:
    """What is seen from outside."""
    rows = []
    for name in dict.fromkeys(each["target"] for each in found["runs"]):
        over = ratio(found["runs"], "cpu", ours=name, other="everything")
        told = medians(of_target(found["runs"], name))
        rows.append([name, f"{told['rate']:.0f}", f"{told['cpu']:.0f}", f"**{over:.3f}**"])
    return [f"{found['callers']} callers. {COSTS}", table(["server", "calls/s", "CPU a call µs", "over everything"], rows)]


def turns(found: Found, _folder: Path) -> list[str]:
    """Threads that take long turns, and those that do not."""
    rows = []
    for callers, runs in found["runs"].items():
        for name in (ECHO, ECHO_LONG, PREDICT, PREDICT_LONG):
            told = medians(of_target(runs, name))
            over = [f"**{ratio(runs, 'rate', ours=name, other=echo):.2f}**" for echo in (ECHO, ECHO_LONG)]
            rows.append(
                [callers, name, f"{told['rate']:.0f}", *over, f"{told['p50']:.2f}", f"{told['p99']:.2f}", f"{told['cpu']:.0f}"]
            )
    headings = [
        "callers",
        "target",
        "calls/s",
        "over the echo",
        "over the echo with long turns",
        "p50 ms",
        "p99 ms",
        "CPU a call µs",
    ]
    return [TURNS, table(headings, rows)]


def profile(found: Found, folder: Path) -> list[str]:
    """Where the time goes."""
    plots.profile(folder / "profile.svg", found["shares"])
    return [
        f"{found['samples']} samples under {found['callers']} callers. {PROFILE}",
    ]


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _times(name: str, run: Mapping[str, float]) -> list[str]:
    return [name, *(f"{run[each]:.2f}" for each in ("p50", "p95", "p99", "slowest", "lag99"))]


def _rate(name: str, run: Mapping[str, float]) -> list[str]:
    return [name, f"{run['rate']:.0f}", f"{run['p50']:.1f}", f"{run['p99']:.1f}", f"{run['cpu']:.0f}"]
