"""What the commands print and refuse."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local import commands
from deploy.local.config import DEFAULT_STATE, ROOT


@pytest.mark.parametrize(
    ("folder", "printed"),
    [
        (DEFAULT_STATE, 'eval "$(make -s env)"'),
        (ROOT / "build" / "other", 'eval "$(make -s env STATE=build/other)"'),
        (Path("/tmp/my stack"), "eval \"$(make -s env STATE='/tmp/my stack')\""),
    ],
)
def test_a_start_prints_the_line_that_works(folder: Path, printed: str) -> None:
    """The line that brings the addresses into a shell names the folder, unless it is the usual one."""
    urls = dict.fromkeys(("mlflow", "airflow", "bentoml", "server"), "")
    assert printed in commands.NEXT.format(state=commands.state_choice(folder), **urls)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "Whose key, and for what? make key NAME=ann SCOPES="),
        (("NAME=ann",), "Whose key, and for what? make key NAME=ann SCOPES="),
        (("NAME=ann", "SCOPES=all"), "No stack runs in"),
    ],
)
def test_a_key_needs_a_name_scopes_and_a_stack(tmp_path: Path, choices: tuple[str, ...], message: str) -> None:
    """What is missing is named, and nothing is created."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NAME", "SCOPES")}
    command = ["make", "-s", "key", f"STATE={tmp_path}", *choices]
    ended = subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, check=False)
    assert (ended.returncode != 0, ended.stdout) == (True, "")
    assert message in ended.stderr
    assert list(tmp_path.iterdir()) == []
