"""Where and with what a part was measured: without that, its numbers say little."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks import cores, tools
from deploy.local.config import ROOT

PACKAGES = ("grpcio", "protobuf", "onnxruntime", "feast", "bentoml", "mlflow", "numpy", "scikit-learn")


def described() -> dict[str, Any]:
    """Tell of the machine, the versions and the commit."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "--porcelain", "--", "server", "client") else ""),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "server_cores": sorted(cores.SERVER),
        "load_cores": sorted(cores.LOAD),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "ghz": tools.GHZ_VERSION,
        "load_average": os.getloadavg()[0],
        "versions": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=False, cwd=ROOT, capture_output=True, text=True).stdout.strip()  # noqa: S607
