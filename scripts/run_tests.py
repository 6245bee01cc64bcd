"""Runs the tests in two processes at a time: those on the real stack, which mostly wait, and all others.

The others' output is seen as it comes, that of the tests on the stack when both have ended. Arguments are pytest's. Ctrl-C ends
both, and they end what they have started. With a choice of markers (-m) or a debugger (--pdb) there is one process.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

LOG = Path("build") / "test-stacks.log"
# pytest's exit code where nothing was selected.
NOTHING = 5


def main(arguments: Sequence[str]) -> int:
    """Run both, and give pytest's exit code: that of the first that failed."""
    if {"-m", "--pdb"} & set(arguments):
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], check=False).returncode
    LOG.parent.mkdir(exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with LOG.open("wb") as log, _started(arguments, "stack", log) as slow, _started(arguments, "not stack") as rest:
        codes = [_code(each) for each in _ended(rest, slow)]
    print("\nThe tests on the stack:", flush=True)
    sys.stdout.buffer.write(LOG.read_bytes())
    sys.stdout.flush()
    if codes == [NOTHING, NOTHING]:
        return NOTHING
    return next((code for code in codes if code not in (0, NOTHING)), 0)


def _started(arguments: Sequence[str], which: str, output: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """Start one of the two, in a process group of its own: a Ctrl-C reaches it once, from here."""
    command = [sys.executable, "-m", "pytest", "-m", which, *arguments]
    return subprocess.Popen(command, stdout=output, stderr=output, process_group=0)


def _ended(*processes: subprocess.Popen[bytes]) -> Sequence[subprocess.Popen[bytes]]:
    """Wait for all of them, through interruptions, which are passed on."""
    for process in processes:
        while process.poll() is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                for each in processes:
                    with contextlib.suppress(ProcessLookupError):
                        each.send_signal(signal.SIGINT)
    return processes


def _code(process: subprocess.Popen[bytes]) -> int:
    return abs(int(process.returncode))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
