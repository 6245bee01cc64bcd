"""Ports: choosing free ones, and telling who holds one that is taken."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping
from itertools import islice

import psutil

from deploy.local.config import HOST, PORT_VARIABLES
from deploy.local.errors import StackError
from deploy.local.processes import MARK, SERVICE_MARK

# Below the ports that the system gives to outgoing connections: one of those could take a port between its choice and its use.
CANDIDATES = range(20_000, 32_000)


def choose(ports: Mapping[str, int]) -> dict[str, int]:
    """Turn each 0 into a free port."""
    free = iter(free_ports(sum(port == 0 for port in ports.values())))
    return {service: port or next(free) for service, port in ports.items()}


def free_ports(count: int) -> list[int]:
    """Find distinct ports that nobody listens on now."""
    candidates = secrets.SystemRandom().sample(CANDIDATES, len(CANDIDATES))
    return list(islice(filter(is_free, candidates), count))


def check(ports: Mapping[str, int]) -> None:
    """Make sure that every service can have its port.

    Raises:
        StackError: naming each port that is taken or wanted twice, who wanted it and, where the system tells, who has it.
    """
    troubles = []
    owners: dict[int, str] = {}
    for service, port in ports.items():
        if port in owners:
            troubles.append(f"{service} and {owners[port]} both want port {port}.")
        elif not is_free(port):
            troubles.append(
                f"Port {port}, which {service} wants, is taken{_holder(port)}. Choose another with {PORT_VARIABLES[service]}=..."
            )
        owners.setdefault(port, service)
    if troubles:
        raise StackError("\n".join(troubles))


def is_free(port: int) -> bool:
    """Tell whether a service could listen on this port."""
    with socket.socket() as probe:
        # As servers do it: connections of an earlier process that are only fading out are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _holder(port: int) -> str:
    """Say who listens on a port, as far as this user may know."""
    try:
        listening = psutil.net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return ""
    pids = {
        each.pid for each in listening if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr[1] == port and each.pid
    }
    for pid in sorted(pids):
        try:
            process = psutil.Process(pid)
            environment = process.environ()
            if MARK in environment:
                return f" by {environment.get(SERVICE_MARK, 'a part')} of the stack in {environment[MARK]}"
            return f" by {process.name()} (process {pid})"
        except psutil.Error:
            return f" by process {pid}"
    return " by another process"
