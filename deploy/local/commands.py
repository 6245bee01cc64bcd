"""The commands behind the make targets. Each returns the status that the process leaves with."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from deploy.local import logs
from deploy.local.config import StackConfig, parse_feast, parse_folders, parse_ports
from deploy.local.environment import export_lines
from deploy.local.errors import AlreadyRunningError, StackError
from deploy.local.processes import marks
from deploy.local.stack import ServiceStatus, Stack

NEXT = """
The stack is up: MLflow {mlflow}, Airflow {airflow}, BentoML {bentoml}, gRPC {server}.
Next:  eval "$(make -s env)"    and then .venv/bin/python, grpcurl or any script of yours
       make status | logs | down"""


def config(options: argparse.Namespace) -> StackConfig:
    """Read what a person chose."""
    return StackConfig(
        state=options.state,
        ports=parse_ports(options.port),
        dag_folders=parse_folders(options.dags, "DAGS"),
        data_folders=parse_folders(options.data, "DATA"),
        feast=parse_feast(options.feast),
        timeout=options.timeout,
    )


def up(options: argparse.Namespace) -> int:
    """Start the stack and say what runs where."""
    wanted = config(options)
    stack = Stack(options.state)
    try:
        stack.up(wanted)
    except AlreadyRunningError as running:
        return _tell_second_start(stack, wanted, running)
    addresses = stack.layout().addresses
    print(NEXT.format(**{name: addresses.url(name) for name in wanted.ports}))
    return 0


def _tell_second_start(stack: Stack, wanted: StackConfig, running: AlreadyRunningError) -> int:
    """A second start that asks for what is there is no failure; one that asks for something else is."""
    record = stack.state.read()
    same_ports = all(port in (0, record.ports[service]) for service, port in wanted.ports.items())
    same_dags = record.dag_folders == [str(folder) for folder in wanted.dag_folders]
    same_data = record.data_folders == [str(folder) for folder in wanted.data_folders]
    same_feast = record.feast == (str(wanted.feast) if wanted.feast else None)
    if same_ports and same_dags and same_data and same_feast:
        print(f"{running} See `make status`; `make down` ends it.")
        return 0
    raise StackError(
        f"{running} It runs with other ports, DAGS, DATA or FEAST than asked for now. `make down` first, then start it again."
    )


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
    return f"{each.name:<9} {each.address:<17} {f'process {each.pid}' if each.pid else '-':<17} {each.trouble or 'well'}"


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
        stack.up(config(options))
    except AlreadyRunningError as running:
        print(f"{running} It is used as it is, and left up.", file=sys.stderr)
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
