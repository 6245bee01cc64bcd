"""The command line: `python -m benchmarks curve --callers 1,8,50 --rounds 3 --seconds 3`."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks import curve, targets
from benchmarks.bench_stack import BenchStack
from benchmarks.load import LoadError
from deploy.local.config import ROOT
from deploy.local.errors import StackError
from deploy.local.interrupts import Interrupted, interruptible


def main() -> int:
    """Do what the arguments say; gives the status to end with."""
    arguments = _parser().parse_args()
    try:
        with interruptible():
            arguments.run(arguments)
    except (StackError, LoadError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupted:
        return interrupted.status
    return 0


def _curve(arguments: argparse.Namespace) -> None:
    with BenchStack(arguments.state) as stack:
        pair = targets.start(stack)
        curve.print_headings()
        curve.measure(pair, callers=arguments.callers, rounds=arguments.rounds, seconds=arguments.seconds)


def _hold(arguments: argparse.Namespace) -> None:
    with BenchStack(arguments.state):
        print("The backends run; benchmarks started meanwhile use them. Ctrl-C ends them.", file=sys.stderr)
        signal.pause()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--state", type=Path, default=ROOT / "build" / "bench", help="where databases, models and logs lie")
    commands = parser.add_subparsers(dest="command", required=True)
    held = commands.add_parser("hold", help="start the backends and keep them, for many runs one after another")
    held.set_defaults(run=_hold)
    chosen = commands.add_parser("curve", help="Predict beside the echo, by number of callers")
    chosen.add_argument("--callers", type=_numbers, default=list(curve.CALLERS), help="such as 1,8,50")
    chosen.add_argument("--rounds", type=int, default=3)
    chosen.add_argument("--seconds", type=float, default=3.0, help="of each run")
    chosen.set_defaults(run=_curve)
    return parser


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


if __name__ == "__main__":
    sys.exit(main())
