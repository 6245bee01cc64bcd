"""How each service of a stack is: whether its process runs, whether it answers, and how often it was started again."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.local import processes, supervisor
from deploy.local.layout import Service
from deploy.local.state import ProcessRecord, Record, StateFolder


@dataclass(frozen=True)
class ServiceStatus:
    """How one service is; `trouble` is empty when it is well."""

    name: str
    address: str
    pid: int | None
    trouble: str
    restarts: int = 0


def of_service(service: Service, record: Record, state: StateFolder) -> ServiceStatus:
    """Look for the process of a service and ask it how it is."""
    known = record.services.get(service.name)
    pid = known.pid if known and processes.is_alive(known) else None
    trouble = service.probe() or "" if pid else _absence(service.name, known, state)
    return ServiceStatus(service.name, service.address, pid, trouble, restarts=known.restarts if known else 0)


def of_supervisor(record: Record) -> ServiceStatus:
    """Look for the process that starts again what dies."""
    known = record.services.get(supervisor.NAME)
    pid = known.pid if known and processes.is_alive(known) else None
    return ServiceStatus(supervisor.NAME, "", pid, "" if pid else "gone: nothing starts what dies; `make up` does")


def _absence(name: str, known: ProcessRecord | None, state: StateFolder) -> str:
    """Say how a service is that has no process. What a killed process left behind may still answer in its place."""
    if known is None:
        return "was never started"
    if known.held:
        return "was stopped"
    left = ", ".join(str(each.pid) for each in processes.marked(state, name))
    return f"gone, and left the processes {left} behind" if left else "gone"
