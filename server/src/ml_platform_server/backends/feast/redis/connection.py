"""A small asyncio client of Redis's protocol, for one purpose: many reads at once over one connection, without a thread."""

from __future__ import annotations

import asyncio
import contextvars
import os
import ssl
import time
from collections import deque
from dataclasses import dataclass, field
from typing import cast

import hiredis

from ml_platform_server.backends.blocking import too_many_wait

MOST_WAITING = 1024
"""Questions that may wait for their answers at once; more only grow the memory while the store hangs."""
GLANCE_QUESTIONS = 8
"""Commands at most whose answers are waited for without the event loop."""
GLANCE_SECONDS = 0.00015
"""How long. A store that is near answers a few commands in a third of that; a turn of the event loop costs as much again."""
GLANCE_BYTES = 65_536
GLANCE_AGAIN = 100
"""Questions that are left to the event loop after an answer that was not there in time."""
NOT_NOW = ("LOADING", "NOAUTH", "WRONGPASS", "MASTERDOWN")
"""What a store's error begins with if it is not ready for anybody, rather than wrongly asked."""


class NotReadyError(ConnectionError):  # an adjective says it
    """The store answers, but with nothing other than that it cannot be used now."""


class RedisResponseError(Exception):  # the same
    """The store says that it was wrongly asked."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a store is, and how it lets somebody in."""

    host: str
    port: int
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    ca_file: str = ""


class _PendingRequest:
    """Commands that were sent together, and their answers as they come in."""

    __slots__ = ("answers", "future", "missing")

    def __init__(self, future: asyncio.Future[list[object]], count: int) -> None:
        self.future = future
        self.missing = count
        self.answers: list[object] = []


class Connection(asyncio.Protocol):
    """One connection, shared: answers come in the order of the commands, so counting tells whose they are.

    A caller that gives up leaves its question in the row; its answers are then counted and thrown away.

    Args:
        timeout: seconds of silence after which a store that owes answers counts as gone.
    """

    def __init__(self, *, timeout: float) -> None:
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[_PendingRequest] = deque()
        self._transport: asyncio.Transport | None = None
        self._last_activity = 0.0
        self._listening: asyncio.TimerHandle | None = None
        self._file = -1
        self._not_now = 0
        self.lost = False

    async def ask(self, commands: bytes, count: int, end: float) -> list[object]:
        """Send encoded commands and wait for their answers, until a moment on the loop's clock.

        Raises:
            TimeoutError: the answers were not there in time.
            ConnectionError: the connection is lost.
        """
        if self._transport is None or self.lost:
            raise ConnectionError("the connection is lost")
        if len(self._waiting) >= MOST_WAITING:
            raise too_many_wait("Feast")
        if not self._waiting:
            self._last_activity = self._loop.time()  # Nothing was owed before, so the silence begins here.
        future: asyncio.Future[list[object]] = self._loop.create_future()
        self._waiting.append(_PendingRequest(future, count))
        self._transport.write(commands)
        if count <= GLANCE_QUESTIONS and len(self._waiting) == 1 and self._file >= 0:
            self._glance(future)
            if future.done():
                return future.result()
        timer = self._loop.call_at(end, self._expire, future)
        try:
            return await future
        finally:
            timer.cancel()

    def _glance(self, future: asyncio.Future[list[object]]) -> None:
        """Look for the answer for a moment, which is often all that it takes, before it is left to the event loop.

        A store that is too far away for that is not looked at again for a while.
        """
        if self._not_now:
            self._not_now -= 1
            return
        end = time.perf_counter() + GLANCE_SECONDS
        while not future.done():
            try:
                data = os.read(self._file, GLANCE_BYTES)
            except BlockingIOError:
                if time.perf_counter() > end:
                    self._not_now = GLANCE_AGAIN
                    return
            except OSError:  # The event loop finds it too, and then tells everybody.
                return
            else:
                if not data:  # The same.
                    return
                self.data_received(data)

    def close(self) -> None:
        """End the connection at once; whoever waits hears that it is lost."""
        self.lost = True
        self._listen_no_more()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection stands."""
        self._transport = cast("asyncio.Transport", transport)
        if transport.get_extra_info("sslcontext") is None:
            self._file = transport.get_extra_info("socket").fileno()
        self._listening = self._loop.call_later(self._timeout, self._listen)

    def connection_lost(self, exc: Exception | None) -> None:
        """Asyncio: the connection is gone, and with it every answer that was owed."""
        self.lost, self._file = True, -1
        self._listen_no_more()
        waiting, self._waiting = self._waiting, deque()
        for question in waiting:
            if not question.future.done():
                question.future.set_exception(ConnectionError(f"the connection was lost: {exc or 'closed'}"))

    def data_received(self, data: bytes) -> None:
        """Asyncio: something came in."""
        self._last_activity = self._loop.time()
        self._reader.feed(data)
        try:
            self._hand_out()
        except hiredis.ProtocolError:  # Whoever is at the other end does not speak this protocol.
            self.close()

    def _hand_out(self) -> None:
        waiting, gets = self._waiting, self._reader.gets
        while waiting:
            question = waiting[0]
            answers = question.answers
            for _ in range(question.missing):
                answer = gets()
                if answer is False:  # The rest is still under way.
                    return
                answers.append(answer)
                question.missing -= 1
            waiting.popleft()
            if not question.future.done():
                question.future.set_result(answers)
        if gets() is not False:  # Nobody asked for this, so no count can be trusted any more.
            self.close()

    def _listen(self) -> None:
        """Close the connection when the store owes answers and was silent for too long, whether or not anybody still waits.

        Callers whose own time is shorter have left by then, and the next ones must not be left to the same silence.
        """
        silent = self._loop.time() - self._last_activity if self._waiting else 0.0
        if silent >= self._timeout * 0.99:
            self.close()
        else:
            self._listening = self._loop.call_later(self._timeout - silent, self._listen)

    def _listen_no_more(self) -> None:
        if self._listening is not None:
            self._listening.cancel()

    def _expire(self, future: asyncio.Future[list[object]]) -> None:
        if not future.done():
            future.set_exception(TimeoutError("the store did not answer in time"))
        if self._loop.time() - self._last_activity >= self._timeout * 0.99:
            self.close()


class StoreClient:
    """Asks one store, over a connection that is made when needed and anew when it was lost.

    Args:
        address: where the store is.
        timeout: seconds that connecting may take, and that a store may be silent.
    """

    def __init__(self, address: Address, *, timeout: float) -> None:
        self.address = address
        self._timeout = timeout
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None

    async def ask(self, commands: bytes, count: int, seconds: float) -> list[object]:
        """Send encoded commands and wait for their answers. They must be reads: they are sent again if a connection breaks.

        Raises:
            TimeoutError: not within these seconds.
            ConnectionError: the store cannot be reached, or cannot be used now.
            Refused: the store says that a command is wrong.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        connection = self._connection
        if connection is not None and not connection.lost:
            try:
                return _checked(await connection.ask(commands, count, end))
            except ConnectionError:  # It may have broken while nobody looked: a new one tells.
                pass
        async with asyncio.timeout_at(end):
            connection = await self._connected()
        return _checked(await connection.ask(commands, count, end))

    def close(self) -> None:
        """End the connection; the next question makes a new one."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> Connection:
        if self._connecting is None or self._connecting.done():
            # Outside of the caller's context and for everybody: it must not end with whoever came first.
            self._connecting = asyncio.create_task(self._connect(), context=contextvars.Context())
            self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> Connection:
        if self._connection is not None and not self._connection.lost:
            return self._connection
        try:
            async with asyncio.timeout(self._timeout):
                self._connection = await self._made()
        except (ConnectionError, TimeoutError):
            raise
        except OSError as error:  # A name that nobody knows, a certificate that does not fit.
            raise ConnectionError(str(error)) from error
        return self._connection

    async def _made(self) -> Connection:
        at, loop = self.address, asyncio.get_running_loop()
        tls = await asyncio.to_thread(_tls, at) if at.tls else None
        _, made = await loop.create_connection(lambda: Connection(timeout=self._timeout), at.host, at.port, ssl=tls)
        greeting = _greeting(at)
        try:
            if greeting:
                _checked(await made.ask(b"".join(greeting), len(greeting), loop.time() + self._timeout))
        except BaseException:
            made.close()
            raise
        return made


def command(*words: bytes) -> bytes:
    """A command as the protocol has it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


def _greeting(at: Address) -> list[bytes]:
    who = [at.username.encode()] if at.username else []
    commands = [command(b"AUTH", *who, at.password.encode())] if at.password else []
    return [*commands, command(b"SELECT", b"%d" % at.db)] if at.db else commands


def _checked(answers: list[object]) -> list[object]:
    for answer in answers:
        if isinstance(answer, hiredis.ReplyError):
            text = str(answer)
            raise NotReadyError(text) if text.startswith(NOT_NOW) else RedisResponseError(text)
    return answers


def _tls(at: Address) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=at.ca_file or None)
