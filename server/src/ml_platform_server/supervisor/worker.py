"""One worker process as the supervisor sees it: started, reporting, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

Command = Callable[[int, int], Sequence[str]]
"""Makes the command of a worker from its number and the file descriptor of its channel."""

_log = structlog.get_logger(__name__)
_LONGEST_NEWS = 65_536
# Silence is counted in this many equal parts. A supervisor that did not run itself, because the whole machine was frozen, misses
# one part when it goes on, and does not kill workers that were frozen with it.
_SILENCE_CHECKS = 5


@dataclass(frozen=True, slots=True)
class StartupReport:
    """The first thing that a worker says: that it is ready, or why it cannot be. After that it sends heartbeats."""

    ready: bool
    error: str = ""


class Worker:
    """A running worker. Its channel is a socket whose other end only the worker has: it closes when either of them is gone."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self._process = process
        self._channel = channel
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, command: Command, number: int, env: Mapping[str, str] | None = None) -> Worker:
        """Start a worker, in a session of its own: Ctrl-C in a terminal is for the supervisor alone."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command(number, theirs.fileno()),
                    stdin=DEVNULL,
                    env=env,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        ours.settimeout(0.0)  # As asyncio wants it.
        return cls(process, ours)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def news(self) -> StartupReport:
        """Wait until the worker says that it is ready, or why it cannot be, or ends without a word."""
        line = b""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while not line.endswith(b"\n") and len(line) < _LONGEST_NEWS:
                part = await loop.sock_recv(self._channel, 4096)
                if not part:
                    break
                line += part
        with contextlib.suppress(ValueError, TypeError):
            return StartupReport(**json.loads(line))
        return StartupReport(ready=False)

    async def wait(self) -> int:
        """Wait until it has ended, and return its status: negative for the signal that ended it."""
        status = await self._process.wait()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        self._channel.close()
        return status

    def kill_when_silent(self, seconds: float) -> None:
        """From now on, kill the worker once it has sent no heartbeat for so long: its event loop hangs."""
        self._watching = asyncio.create_task(self._watch(seconds))

    async def _watch(self, seconds: float) -> None:
        missed = 0
        loop = asyncio.get_running_loop()
        while missed < _SILENCE_CHECKS:
            try:
                async with asyncio.timeout(seconds / _SILENCE_CHECKS):
                    heartbeat = await loop.sock_recv(self._channel, 4096)
            except TimeoutError:
                missed += 1
            except OSError:
                return
            else:
                missed = 0
                if not heartbeat:
                    return  # The channel is closed: the worker has ended, or is about to.
        _log.error("worker_hung", pid=self.pid, silent_seconds=seconds)
        self.kill()

    def end(self) -> None:
        """Have it answer the calls that it has, and end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
