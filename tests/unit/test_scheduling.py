"""How the threads of a serving process are scheduled."""

from __future__ import annotations

import os
import subprocess
import sys

# What a process does that serves, and what it then knows of itself: the policy of a thread, and what gRPC was told.
CODE = """
import os, threading
from ml_platform_server.scheduling import take_long_turns
take_long_turns()
seen = []
thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(threading.get_native_id())))
thread.start()
thread.join()
import grpc
grpc.aio.init_grpc_aio()
print(seen == [os.SCHED_BATCH], os.environ["GRPC_EXPERIMENTS"])
"""


def told(**environment: str) -> tuple[str, str]:
    """What the process prints, on its standard output and on its standard error."""
    kept = {name: value for name, value in os.environ.items() if name != "GRPC_EXPERIMENTS"}
    done = subprocess.run([sys.executable, "-c", CODE], check=True, capture_output=True, text=True, env=kept | environment)
    return done.stdout.strip(), done.stderr.strip()


def test_no_thread_interrupts_another():
    """Threads that are started later, gRPC's among them, have the policy; and gRPC knows what it is told, or would complain."""
    assert told() == ("True -event_engine_listener", "")


def test_what_the_operator_tells_grpc_is_left_alone():
    """GRPC_EXPERIMENTS of the environment stays as it is."""
    assert told(GRPC_EXPERIMENTS="")[0] == "True"
