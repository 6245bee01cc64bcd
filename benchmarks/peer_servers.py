"""How each of the servers that are compared with is installed, started and called.

Each has an environment of its own. Those that can run any code are measured twice: with the model in scikit-learn, as they come,
and in ONNX Runtime, put in by hand.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import inference, payloads
from benchmarks.bench_stack import BenchStack
from benchmarks.driver import Call
from benchmarks.load import Target
from benchmarks.model import Facts
from benchmarks.tools import TOOLS, make_environment
from deploy.local import ports, probes
from deploy.local.config import HOST, ROOT

FOLDER = ROOT / "benchmarks" / "peers"
MODEL = "fraud"


@dataclass(frozen=True)
class Server:
    """A program. `command` is what its Python is given, from its port and that of its HTTP API; `ready` is a path of that."""

    home: str
    packages: tuple[str, ...]
    ready: str
    command: Callable[[Facts, int, int], list[str]]
    settings: Callable[[int, int], Mapping[str, str]] = lambda _port, _http: {}
    # The path and the requests of its HTTP API; gRPC if there are none.
    bodies: Callable[[Facts], tuple[str, Iterable[dict[str, Any]]]] | None = None

    def install(self) -> list[str]:
        """Install it if that was not done before; gives what of its packages lives in its environment.

        Raises:
            subprocess.CalledProcessError: it cannot be installed; its `stderr` tells why.
        """
        folder = TOOLS / "peers" / self.home
        done, wanted = folder / "installed.json", json.dumps(self.packages)
        if not done.exists() or done.read_text() != wanted:
            print(f"Installing {self.home}, a minute or two, once", file=sys.stderr, flush=True)
            make_environment(folder, list(self.packages))
            done.write_text(wanted)
        names = {package.partition("==")[0] for package in self.packages} | {"grpcio", "protobuf"}
        return sorted(line for line in _frozen(folder) if line.partition("==")[0] in names)


@dataclass(frozen=True)
class Peer:
    """A server with a form of the model."""

    name: str
    server: Server
    model: Callable[[Facts], Path]

    def start(self, stack: BenchStack) -> Target | Call:
        """Start it on the server's core; gives how to call it."""
        server, facts = self.server, stack.facts
        port, http = ports.free_ports(2) if server.bodies is None else ports.free_ports(1) * 2
        programs = TOOLS / "peers" / server.home / "bin"
        inherited = stack.layout.environment()
        own = {"FRAUD_MODEL": str(self.model(facts)), "PYTHONPATH": str(FOLDER), "PATH": f"{programs}:{inherited['PATH']}"}
        stack.run(
            self.name,
            [str(programs / "python"), *server.command(facts, port, http)],
            lambda: probes.http_ok(http, server.ready),
            environment={**inherited, **own, **server.settings(port, http)},
            folder=FOLDER,
        )
        return self._called(facts, f"{HOST}:{port}", stack.state.folder("load") / f"{self.name}.bin")

    def _called(self, facts: Facts, address: str, sent: Path) -> Target | Call:
        if self.server.bodies is None:
            payloads.write(sent, (inference.request(facts, 1, model=MODEL, start=at) for at in range(len(facts.rows))))
            return Target(self.name, "infer", address, sent)
        path, bodies = self.server.bodies(facts)
        payloads.write_raw(sent, (json.dumps(each).encode() for each in bodies))
        return Call(self.name, address, path, sent, kind="http")


def _frozen(folder: Path) -> list[str]:
    command = [str(Path(sys.executable).parent / "uv"), "pip", "freeze", "--python", str(folder / "bin" / "python")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def _kserve(_facts: Facts, port: int, http: int) -> list[str]:
    return [str(FOLDER / "kserve_server.py"), str(port), str(http)]


def _mlserver(_facts: Facts, _port: int, _http: int) -> list[str]:
    return ["-m", "mlserver.cli.main", "start", str(FOLDER / "mlserver_model")]


def _mlserver_settings(port: int, http: int) -> dict[str, str]:
    settings = {
        "HOST": HOST,
        "GRPC_PORT": str(port),
        "HTTP_PORT": str(http),
        "METRICS_PORT": str(ports.free_ports(1)[0]),
        # In the server's own process: on one core, workers of their own only cost.
        "PARALLEL_WORKERS": "0",
        "DEBUG": "false",
    }
    return {f"MLSERVER_{name}": value for name, value in settings.items()}


def _mlflow(facts: Facts, port: int, _http: int) -> list[str]:
    options = ("--env-manager", "local", "--host", HOST, "--port", str(port), "--workers", "1")
    return ["-m", "mlflow", "models", "serve", "--model-uri", str(facts.sklearn_folder), *options]


def _bentoml(_facts: Facts, port: int, _http: int) -> list[str]:
    return ["-m", "bentoml", "serve", "bentoml_service:Fraud", "--host", HOST, "--port", str(port)]


def _invocations(facts: Facts) -> tuple[str, Iterable[dict[str, Any]]]:
    names = list(facts.columns)
    rows = ({"columns": names, "data": [[row[name] for name in names]]} for row in facts.rows)
    return "/invocations", ({"dataframe_split": each} for each in rows)


def _rows(facts: Facts) -> tuple[str, Iterable[dict[str, Any]]]:
    return "/predict", ({"row": {name: row[name] for name in facts.columns}} for row in facts.rows)


PYTHON = ("scikit-learn==1.9.1", "pandas==2.3.3", "numpy==2.4.6", "cloudpickle==3.1.2")
BOTH = ("onnxruntime==1.32.0", *PYTHON)

KSERVE = Server("kserve", ("kserve==0.21.0", *BOTH), "/v2/health/ready", _kserve)
MLSERVER = Server("mlserver", ("mlserver==1.7.1", *BOTH), "/v2/health/ready", _mlserver, settings=_mlserver_settings)
MLFLOW = Server("mlflow", ("mlflow==3.17.2", *PYTHON), "/ping", _mlflow, bodies=_invocations)
BENTOML = Server("bentoml", ("bentoml==1.4.39", *BOTH), "/readyz", _bentoml, bodies=_rows)


def _onnx(facts: Facts) -> Path:
    return facts.onnx_file


def _sklearn(facts: Facts) -> Path:
    return facts.sklearn_folder / "model.pkl"


PEERS = (
    Peer("kserve_onnx", KSERVE, _onnx),
    Peer("kserve_sklearn", KSERVE, _sklearn),
    Peer("mlserver_onnx", MLSERVER, _onnx),
    Peer("mlserver_sklearn", MLSERVER, _sklearn),
    Peer("mlflow_sklearn", MLFLOW, _sklearn),
    Peer("bentoml_onnx", BENTOML, _onnx),
    Peer("bentoml_sklearn", BENTOML, _sklearn),
)
