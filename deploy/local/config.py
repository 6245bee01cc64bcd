"""What a person may choose about the stack, and the addresses that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_STATE = ROOT / ".stack"
HOST = "127.0.0.1"
HIGHEST_PORT = 65535
DEFAULT_PORTS: Mapping[str, int] = {
    # Not 6379: a machine that runs a Redis of its own should keep it.
    "valkey": 16379,
    "postgres": 15432,
    "mlflow": 5000,
    "airflow": 8080,
    "bentoml": 3000,
    "server": 50051,
}
# The make variable that sets each port, for messages.
PORT_VARIABLES: Mapping[str, str] = {
    "valkey": "VALKEY_PORT",
    "postgres": "POSTGRES_PORT",
    "mlflow": "MLFLOW_PORT",
    "airflow": "AIRFLOW_PORT",
    "bentoml": "BENTOML_PORT",
    "server": "GRPC_PORT",
}


@dataclass(frozen=True)
class Addresses:
    """Where each service listens, by name; all on the loopback interface."""

    ports: Mapping[str, int]

    def address(self, service: str) -> str:
        """Give `host:port`."""
        return f"{HOST}:{self.ports[service]}"

    def url(self, service: str) -> str:
        """Give `http://host:port`."""
        return f"http://{self.address(service)}"


@dataclass(frozen=True)
class StackConfig:
    """One stack as a person asked for it. A port of 0 means any free one; `timeout` is in seconds, for each service's start.

    `chosen` names the services whose port was chosen: a start beside what runs leaves the others where they are.
    """

    state: Path
    ports: Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_PORTS))
    chosen: frozenset[str] = frozenset()
    dag_folders: tuple[Path, ...] = ()
    feast: Path | None = None
    data_folders: tuple[Path, ...] = ()
    timeout: float = 300.0


def parse_ports(choices: Iterable[str]) -> dict[str, int]:
    """Read `service=number` pairs over the default ports.

    Raises:
        StackError: for an unknown service, or something that is no port.
    """
    ports = dict(DEFAULT_PORTS)
    for choice in choices:
        service, _, number = choice.partition("=")
        if service not in ports:
            raise StackError(f"There is no service {service!r}; ports can be given for {', '.join(ports)}.")
        if not number.isdecimal() or int(number) > HIGHEST_PORT:
            raise StackError(
                f"{PORT_VARIABLES[service]} is {number!r}, not a port. Give a number up to {HIGHEST_PORT}; 0 means any free one."
            )
        ports[service] = int(number)
    return ports


def parse_folders(text: str, variable: str) -> tuple[Path, ...]:
    """Read a comma-separated list of folders, which a make variable gives.

    Raises:
        StackError: if one is not there.
    """
    folders = tuple(Path(part.strip()).expanduser().resolve() for part in text.split(",") if part.strip())
    for folder in folders:
        if not folder.is_dir():
            raise StackError(f"{variable} names {folder}, which is not a folder.")
    return folders


def parse_feast(text: str) -> Path | None:
    """Read the path of a feature_store.yaml, or of the folder that holds one.

    Raises:
        StackError: if it is not there.
    """
    if not text:
        return None
    path = Path(text).expanduser().resolve()
    path = path / "feature_store.yaml" if path.is_dir() else path
    if not path.is_file():
        raise StackError(f"FEAST names {path}, which is not a file.")
    return path
