"""The command line: `python -m benchmarks curve --callers 1,8,50 --rounds 3 --seconds 3`."""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from benchmarks import gates, page, parts, results, tools
from benchmarks.bench import Bench
from benchmarks.bench_stack import BenchStack
from benchmarks.effort import FULL, QUICK, Effort
from benchmarks.measure import LoadError
from benchmarks.parts import curve
from deploy.local.config import ROOT
from deploy.local.errors import StackError
from deploy.local.interrupts import Interrupted, interruptible

STATE = ROOT / "build" / "bench"


def main() -> int:
    """Do what the arguments say; gives the status to end with."""
    arguments = _parser().parse_args()
    try:
        with interruptible():
            status: int = arguments.run(arguments)
            return status
    except (StackError, LoadError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return interrupted.status


def _curve(arguments: argparse.Namespace) -> int:
    effort = replace(QUICK, callers=tuple(arguments.callers), rounds=arguments.rounds, seconds=arguments.seconds)
    with BenchStack(arguments.state) as stack:
        curve.measure(Bench(stack, effort))
    return 0


def _all(arguments: argparse.Namespace) -> int:
    chosen = [name for name in arguments.parts or parts.ALL if name not in arguments.skip]
    raw = arguments.raw or (arguments.state / "short" / "raw" if arguments.short else results.RAW)
    failed = _measure(arguments.state, chosen, QUICK if arguments.short else FULL, raw)
    page.write(raw)
    return 1 if failed else 0


def _quick(arguments: argparse.Namespace) -> int:
    raw = arguments.state / "quick"
    if _measure(arguments.state, parts.QUICK, QUICK, raw):
        return 1
    return gates.judge(results.load(raw))


def _measure(state: Path, chosen: list[str], effort: Effort, raw: Path) -> list[str]:
    """Measure parts one after another, keeping what each found at once; gives the names of those that failed."""
    # The load generators are built while the backends start: both take their time the first time.
    with ThreadPoolExecutor(1) as pool:
        built = pool.submit(tools.build)
        with BenchStack(state) as stack:
            built.result()
            return _parts(Bench(stack, effort), chosen, raw)


def _parts(bench: Bench, chosen: list[str], raw: Path) -> list[str]:
    failed = []
    for name in chosen:
        print(f"== {name}", flush=True)
        try:
            results.save(raw, name, parts.ALL[name](bench))
        except (StackError, LoadError) as error:
            print(f"benchmarks: {error}", file=sys.stderr)
            failed.append(name)
        except Exception:  # noqa: BLE001  # one part's failure is no reason to lose the others
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return failed


def _page(arguments: argparse.Namespace) -> int:
    page.write(arguments.raw)
    return 0


def _hold(arguments: argparse.Namespace) -> int:
    with BenchStack(arguments.state) as stack:
        stack.let_others_in()
        print("The backends run; benchmarks started meanwhile use them. Ctrl-C ends them.", file=sys.stderr)
        signal.pause()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--state", type=Path, default=STATE, help="where databases, models and logs lie")
    commands = parser.add_subparsers(required=True)

    chosen = commands.add_parser("all", help="measure everything, or the parts named, and write the results page")
    chosen.add_argument("--parts", type=_names, default=[], help=f"some of {','.join(parts.ALL)}")
    chosen.add_argument("--skip", type=_names, default=[], help="all but these")
    chosen.add_argument("--short", action="store_true", help="to see that it works: too short to be believed, and kept apart")
    chosen.add_argument("--raw", type=Path, help="where the raw results go")
    chosen.set_defaults(run=_all)

    chosen = commands.add_parser("quick", help="measure a few minutes' worth, and fail if a ratio is under its gate")
    chosen.set_defaults(run=_quick)

    chosen = commands.add_parser("page", help="write the results page anew from the raw results")
    chosen.add_argument("--raw", type=Path, default=results.RAW)
    chosen.set_defaults(run=_page)

    chosen = commands.add_parser("hold", help="start the backends and keep them, for many runs one after another")
    chosen.set_defaults(run=_hold)

    chosen = commands.add_parser("curve", help="Predict beside the echo, by number of callers")
    chosen.add_argument("--callers", type=_numbers, default=list(FULL.callers), help="such as 1,8,50")
    chosen.add_argument("--rounds", type=int, default=3)
    chosen.add_argument("--seconds", type=float, default=3.0, help="of each run")
    chosen.set_defaults(run=_curve)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in parts.ALL]:
        raise argparse.ArgumentTypeError(f"there is no part {', '.join(unknown)}; there are {', '.join(parts.ALL)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
