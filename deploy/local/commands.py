"""The commands behind the make targets. Each returns the status that the process leaves with."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from deploy.local import logs
from deploy.local.config import DEFAULT_STATE, ROOT, StackConfig, parse_feast, parse_folders, parse_ports
from deploy.local.environment import export_lines
from deploy.local.errors import AlreadyRunningError, StackError
from deploy.local.processes import marks
from deploy.local.stack import Stack
from deploy.local.statuses import ServiceStatus

NEXT = """
The stack is up: MLflow {mlflow}, Airflow {airflow}, BentoML {bentoml}, gRPC {server}.
Next:  eval "$(make -s env{state})"    and then .venv/bin/python, grpcurl or any script of yours
       make status{state} | make logs{state} | make down{state}"""


def config(options: argparse.Namespace) -> StackConfig:
    """Read what a person chose."""
    return StackConfig(
        state=options.state,
        ports=parse_ports(options.port),
        chosen=frozenset(choice.partition("=")[0] for choice in options.port),
        dag_folders=parse_folders(options.dags, "DAGS"),
        data_folders=parse_folders(options.data, "DATA"),
        feast=parse_feast(options.feast),
        timeout=options.timeout,
    )


def up(options: argparse.Namespace) -> int:
    """Start the stack and say what runs where."""
    stack = Stack(options.state)
    try:
        stack.up(config(options))
    except AlreadyRunningError as running:
        # A second start that asks for what is there is no failure.
        print(running)
    addresses = stack.layout().addresses
    print(NEXT.format(state=state_choice(options.state), **{name: addresses.url(name) for name in addresses.ports}))
    return 0


def state_choice(state: Path) -> str:
    """Give the choice of the state folder as `make` wants it after a target; nothing for the usual folder."""
    return "" if state == DEFAULT_STATE else f" STATE={shlex.quote(_short(state))}"


def _short(path: Path) -> str:
    """Give a path as short as it may be for commands that are run in the project's folder."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def down(options: argparse.Namespace) -> int:
    """End the stack."""
    count = Stack(options.state).down()
    print(f"Ended the stack in {options.state} ({count} processes)." if count else f"No stack runs in {options.state}.")
    return 0


def clean(options: argparse.Namespace) -> int:
    """End the stack and remove its state."""
    Stack(options.state).clean()
    return 0


def status(options: argparse.Namespace) -> int:
    """Say how each service is."""
    statuses = Stack(options.state).status()
    for each in statuses:
        print(_status_line(each))
    return 1 if any(each.trouble for each in statuses) else 0


def _status_line(each: ServiceStatus) -> str:
    restarted = f", started again {each.restarts}x" if each.restarts else ""
    return (
        f"{each.name:<21} {each.address:<17} {f'process {each.pid}' if each.pid else '-':<17} {each.trouble or 'well'}{restarted}"
    )


def key(options: argparse.Namespace) -> int:
    """Make a further API key and print it."""
    stack = Stack(options.state)
    stack.status()
    print(stack.create_key(options.name, [scope.strip() for scope in options.scopes.split(",")]))
    return 0


def supervise(options: argparse.Namespace) -> int:
    """Start again what dies, until the stack ends; `up` starts this."""
    Stack(options.state).supervise()
    return 0


def show_logs(options: argparse.Namespace) -> int:
    """Show the ends of the logs."""
    chosen = logs.choose(Stack(options.state).state, options.service)
    if options.follow:
        logs.follow(chosen, options.lines)
    for log in chosen:
        print(f"==> {log} <==", *logs.tail(log, options.lines), "", sep="\n")
    return 0


def env(options: argparse.Namespace) -> int:
    """Print what a shell may evaluate to use the stack."""
    stack = Stack(options.state)
    stack.status()
    if not stack.state.read().ready:
        raise StackError(f"The stack in {stack.state.path} is not up yet, or its start was interrupted. See `make status`.")
    print(export_lines(stack.exports()))
    return 0


def run(options: argparse.Namespace) -> int:
    """Run a command on the stack: on the one that is up, or on one that is started for it and ended after it."""
    stack = Stack(options.state)
    try:
        was_up = stack.up(config(options))
    except AlreadyRunningError as running:
        print(f"{running} It is used as it is, and left up.", file=sys.stderr)
        was_up = True
    if was_up:
        return _run(options.command, {**os.environ, **stack.exports()})
    try:
        # Marked as a part of the stack, so that `make down` finds the command too if this process crashes.
        return _run(options.command, {**os.environ, **stack.exports(), **marks(stack.state, "command")})
    finally:
        print("Ending the stack.", file=sys.stderr)
        stack.down()


def _run(command: list[str], environment: dict[str, str]) -> int:
    """Run a command in the foreground; when this process is told to end, the command ends first."""
    with subprocess.Popen(command, env=environment) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise
