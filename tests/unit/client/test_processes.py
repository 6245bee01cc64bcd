"""The client in processes that fork, tested in a process of their own.

The process of all tests has had servers and libraries in it by then whose threads do not survive a fork.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("cases_of_processes.py")


def test_the_client_works_in_processes_that_fork():
    """Every case passes, in a process that has no more in it than a user's."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
