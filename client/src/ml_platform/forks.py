"""Keeps this client's calls apart from forks of the process.

A fork copies the work that gRPC has queued, and gRPC's threads take it up in the child, where the rest of it is gone: the child
crashes, whatever it does. So while a process forks, new calls wait, and those in flight get a moment to end. What else uses gRPC
in the process, a server for instance, cannot be held back from here.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# How long a fork waits for calls in flight. One that takes longer mostly waits for its answer, and has nothing queued meanwhile.
_WAIT_SECONDS = 1.0
_WARNING = (
    "This process forks while {} calls or streams of ML Platform's client are under way: the child may crash. "
    'Start processes with multiprocessing.get_context("spawn").'
)
# How long what is under way on open streams, or on the event loop that forks, takes to become quiet.
_SETTLE_SECONDS = 0.01
_POLL_SECONDS = 0.001
# Part of the name of the thread that grpc.aio starts when it is first used in a process, by a client or by a server.
_AIO_THREAD = "_poll_wrapper"

# The variable that switches gRPC's threads in forked children off, and how it does.
FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
_OFF = frozenset({"0", "false", "f", "no", "n"})

Loop = asyncio.AbstractEventLoop | None


class ForkGate:
    """Lets calls in, except while the process forks.

    Attributes:
        aio_inherited: whether a parent process used gRPC's asyncio side, which does not work in its forked children.
        stranded: whether a parent process used this client while gRPC's support for forks is off, so that calls never end here.
    """

    def __init__(self) -> None:
        self.aio_inherited = self.stranded = False
        self._used = False
        self._aio_used = False
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._closed = False
        self._calls: Counter[Loop] = Counter()
        self._streams = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Stands around a blocking call."""
        while not self._entered(None):
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            self._left(None)

    async def enter(self) -> None:
        """Wait until a call of the running event loop may begin. `leave` tells of its end."""
        while not self._entered(asyncio.get_running_loop()):  # noqa: ASYNC110  # an asyncio.Event belongs to one loop
            await asyncio.sleep(_POLL_SECONDS)

    def leave(self) -> None:
        """Tell that a call of the running event loop has ended."""
        self._left(asyncio.get_running_loop())

    def wait(self) -> None:
        """Wait, before the next message of a stream, until the process does not fork."""
        while self._closed:
            time.sleep(_POLL_SECONDS)

    def stream_opened(self) -> None:
        """Tell that a stream has been opened."""
        with self._lock:
            self._streams += 1

    def stream_ended(self) -> None:
        """Tell that a stream has ended."""
        with self._lock:
            self._streams -= 1

    def before_fork(self) -> None:
        """Hold back new calls, and wait a moment for those in flight."""
        with self._lock:
            self._closed = True
        self._aio_used = self.aio_inherited or any(_AIO_THREAD in thread.name for thread in threading.enumerate())
        # Calls of the event loop that forks cannot end before the fork.
        own: Loop = asyncio._get_running_loop()  # the public function raises where there is none
        busy = self._streams or self._calls.total()
        end = time.monotonic() + _WAIT_SECONDS
        while (others := self._calls.total() - (self._calls[own] if own else 0)) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        if busy:
            time.sleep(_SETTLE_SECONDS)
        if others or self._streams:
            # An error that is raised here would be printed, and the process would fork all the same.
            warnings.warn(_WARNING.format(others + self._streams), RuntimeWarning, stacklevel=3)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._closed = False

    def after_fork_in_child(self) -> None:
        """Forget the parent's calls."""
        self.aio_inherited = self._aio_used
        self.stranded = self.stranded or (self._used and os.environ.get(FORK_SUPPORT, "").strip().lower() in _OFF)
        self._reset()

    def _entered(self, loop: Loop) -> bool:
        with self._lock:
            if not self._closed:
                self._calls[loop] += 1
                self._used = True
            return not self._closed

    def _left(self, loop: Loop) -> None:
        with self._lock:
            self._calls[loop] -= 1
            if not self._calls[loop]:
                del self._calls[loop]


gate = ForkGate()
os.register_at_fork(before=gate.before_fork, after_in_parent=gate.after_fork_in_parent, after_in_child=gate.after_fork_in_child)
