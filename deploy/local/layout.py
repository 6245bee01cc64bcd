"""What the description of a service is made of, and what it is made from."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local import environment
from deploy.local.config import Addresses
from deploy.local.credentials import Credentials
from deploy.local.probes import Probe
from deploy.local.state import StateFolder


@dataclass(frozen=True)
class Service:
    """One long-running process: its command, its surroundings, and the question that tells whether it is well.

    `environment` is asked for when the process is started, and may write what the process then reads. `needs` names the steps and
    the services that come before it in a start; those that a start does not have are passed over. `address` is where it listens,
    if it does, and `end_with` the signal that ends it in order.
    """

    name: str
    command: tuple[str, ...]
    probe: Probe
    folder: Path
    environment: Callable[[], Mapping[str, str]]
    needs: tuple[str, ...] = ()
    address: str = ""
    end_with: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Layout:
    """Everything that the services of one stack share."""

    state: StateFolder
    addresses: Addresses
    credentials: Credentials
    dag_folders: tuple[Path, ...]
    feature_store: Path
    data_folders: tuple[Path, ...] = ()

    def environment(self) -> dict[str, str]:
        """Give the environment that each service adds its own settings to."""
        shared = environment.for_tasks(self.addresses, state=self.state.path, feature_store=self.feature_store)
        return {**environment.base(), **shared}


def program(name: str) -> str:
    """Find a program of the environment that the stack itself runs in."""
    return str(Path(sys.executable).parent / name)
