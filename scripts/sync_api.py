"""Makes the client's synchronous API from its asynchronous one, so that every method is written once.

`await`, `async` and the Async in names go away; nothing else changes. What truly differs between the two is in `transport.py`,
written by hand on both sides. Without arguments it writes; with `--check` it fails if what is checked in is not that.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ASYNC_API = ROOT / "client" / "src" / "ml_platform" / "aio"
SYNC_API = ROOT / "client" / "src" / "ml_platform" / "sync"
BY_HAND = {"__init__.py", "transport.py"}
HEADER = "# Made from ml_platform/aio/{name} by scripts/sync_api.py. Change that file and run `make generate`.\n"

RULES = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\(await ((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)(?=\.)", r"\1"),  # (await call(...)).field needs no parentheses
    (r"\bawait ", ""),
    (r"  # noqa: ASYNC\d+\b.*", ""),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\bml_platform\.aio\b", "ml_platform.sync"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"__a(iter|next|enter|exit)__", r"__\1__"),
]


def translated(path: Path) -> str:
    """The synchronous text of an asynchronous module."""
    text = path.read_text()
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    return formatted(HEADER.format(name=path.name) + text)


def formatted(text: str) -> str:
    """The text as ruff lays it out."""
    ruff = [sys.executable, "-m", "ruff"]
    for step in (["check", "--select", "I", "--fix", "--quiet"], ["format", "--quiet"]):
        command = [*ruff, *step, "--stdin-filename", str(SYNC_API / "made.py"), "-"]
        text = subprocess.run(command, input=text, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return text


def wanted() -> dict[Path, str]:
    """Every module of the synchronous API that is made, with its text."""
    return {SYNC_API / path.name: translated(path) for path in sorted(ASYNC_API.glob("*.py")) if path.name not in BY_HAND}


def drifted(modules: dict[Path, str]) -> list[Path]:
    """The modules that are not as they should be, stray ones included."""
    present = {path for path in SYNC_API.glob("*.py") if path.name not in BY_HAND}
    stale = {path for path, text in modules.items() if not path.exists() or path.read_text() != text}
    return sorted(stale | (present - modules.keys()))


def main() -> None:
    """Write the synchronous API, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fail if the synchronous API is not up to date")
    check = parser.parse_args().check
    modules = wanted()
    changed = drifted(modules)
    if check and changed:
        sys.exit("The synchronous API is stale; run `make generate`:\n  " + "\n  ".join(map(str, changed)))
    for path in changed:
        if path in modules:
            path.write_text(modules[path])
        else:
            path.unlink()


if __name__ == "__main__":
    main()
