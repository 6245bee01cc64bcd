"""Sets the process up so that gRPC's threads and the event loop do not interrupt each other. See ADR 0006.

Every event of a call passes from gRPC's own threads to the loop. Left alone, each wakes the other for each event: on a busy core
half of the time of an empty call goes into switching between them.
"""

from __future__ import annotations

import contextlib
import os

# gRPC's older way to listen: the thread that waits for events also reads the sockets, rather than be woken by threads that do.
POLLING = "-event_engine_listener"


def take_long_turns() -> None:
    """Let each thread of this process go on until it has nothing left to do, rather than have it interrupted by those it wakes.

    To be called before gRPC is imported and before any thread is started. What GRPC_EXPERIMENTS says already is left as it is.
    Where the system has no such policy, or does not allow it, everything works as ever, and slower.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", POLLING)
    if hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
