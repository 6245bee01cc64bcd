"""The command line of the local stack; the Makefile's targets call it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deploy.local import commands
from deploy.local.config import DEFAULT_STATE, PORT_VARIABLES
from deploy.local.errors import StackError
from deploy.local.interrupts import Interrupted, interruptible


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    top.add_argument("--state", type=Path, default=DEFAULT_STATE, help="the folder that holds everything of this stack")
    subparsers = top.add_subparsers(required=True)
    for command in (commands.up, commands.run):
        starts = subparsers.add_parser(command.__name__, help=command.__doc__)
        starts.set_defaults(command_function=command)
        starts.add_argument("--dags", default="", help="further folders of DAGs, separated by commas")
        starts.add_argument("--data", default="", help="folders that feature views may read files from, separated by commas")
        starts.add_argument("--feast", default="", help="another project's feature_store.yaml")
        starts.add_argument("--port", action="append", default=[], metavar="SERVICE=NUMBER", help=", ".join(PORT_VARIABLES))
        starts.add_argument("--timeout", type=float, default=300.0, help="seconds that each service may take to start")
        if command is commands.run:
            starts.add_argument("command", nargs="+", help="the command to run, after --")
    for command in (commands.down, commands.clean, commands.status, commands.env, commands.supervise):
        subparsers.add_parser(command.__name__, help=command.__doc__).set_defaults(command_function=command)
    makes_key = subparsers.add_parser("key", help=commands.key.__doc__)
    makes_key.set_defaults(command_function=commands.key)
    makes_key.add_argument("--name", required=True, help="whose key it is")
    makes_key.add_argument(
        "--scopes", required=True, help="what it allows, separated by commas: 'all', or 'models:read' and so on"
    )
    shows = subparsers.add_parser("logs", help=commands.show_logs.__doc__)
    shows.set_defaults(command_function=commands.show_logs)
    shows.add_argument("--service", default="", help="only this one's log")
    shows.add_argument("--lines", type=int, default=50)
    shows.add_argument("--follow", action="store_true", help="go on showing what comes")
    return top


def main() -> int:
    """Run one command."""
    options = parser().parse_args()
    options.state = options.state.resolve()
    with interruptible():
        try:
            return int(options.command_function(options))
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        except Interrupted as interruption:
            print("Interrupted.", file=sys.stderr)
            return interruption.status


if __name__ == "__main__":
    sys.exit(main())
