"""A worker's end of the channel to its supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import threading
import time

HEARTBEAT_INTERVAL = 1.0
"""Seconds between two heartbeats of a worker that is ready."""
# White space, so that one that arrives together with the first message does not spoil it.
HEARTBEAT = b"\n"


class Lifeline:
    """Tells the supervisor how the start went, and ends this process when the supervisor is gone.

    Args:
        channel: the file descriptor of the channel.
        patience: seconds that this process may take to end in an orderly way once the supervisor is gone.
    """

    def __init__(self, channel: int, *, patience: float) -> None:
        self._channel = socket.socket(fileno=channel)
        # Not for whatever this process may start itself: the channel must close when this process ends.
        self._channel.set_inheritable(False)
        self._patience = patience
        # A thread, because it must work too before there is an event loop, and when that hangs.
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    def ready(self) -> None:
        """Say that calls are answered."""
        self._say(ready=True)

    def start_heartbeat(self) -> None:
        """Send a heartbeat every second from the running event loop, so that the supervisor notices when the loop hangs."""
        self._beat(asyncio.get_running_loop())

    def _beat(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(OSError):  # A supervisor that does not read, or is gone: the thread notices the latter.
            self._channel.send(HEARTBEAT, socket.MSG_DONTWAIT)
        loop.call_later(HEARTBEAT_INTERVAL, self._beat, loop)

    def failed(self, error: str) -> None:
        """Say why no call will be answered, in words for the operator."""
        self._say(ready=False, error=error)

    def _say(self, *, ready: bool, error: str = "") -> None:
        line = json.dumps({"ready": ready, "error": error}).encode()
        try:
            self._channel.sendall(line + b"\n")
        except OSError:
            return  # Nobody is there to hear it, and the thread below sees to the rest.

    def _watch(self) -> None:
        try:
            while self._channel.recv(1024):
                pass
        except OSError:
            pass  # The channel is broken, which is the same as closed.
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._patience)
        os._exit(1)
