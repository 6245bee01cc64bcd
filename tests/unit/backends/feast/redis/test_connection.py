"""The client of Redis's protocol: whose answer is whose, whatever happens on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import hiredis
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ml_platform_server.backends.feast.redis import connection
from ml_platform_server.backends.feast.redis.connection import Address, NotReadyError, RedisResponseError, StoreClient, command

Answering = Callable[[list[bytes], asyncio.StreamWriter], Awaitable[None]]
GET = command(b"GET", b"%d")


@asynccontextmanager
async def asked(
    answering: Answering, *, silence: float = 5.0, password: str = "", tls: ssl.SSLContext | None = None, ca_file: str = ""
) -> AsyncIterator[StoreClient]:
    """A client of a store that does with each command as a test says."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        with closing(writer):
            while data := await reader.read(65536):
                commands.feed(data)
                while (words := commands.gets()) is not False:
                    await answering(words, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    address = Address("127.0.0.1", port, password=password, tls=tls is not None, ca_file=ca_file)
    client = StoreClient(address, timeout=silence)
    try:
        yield client
    finally:
        client.close()
        server.close()


async def echo(words: list[bytes], writer: asyncio.StreamWriter) -> None:
    """Answer with what was asked for."""
    writer.write(b"$%d\r\n%b\r\n" % (len(words[-1]), words[-1]))


def gets(*names: int) -> tuple[bytes, int]:
    """Commands that ask for these, and how many they are."""
    return b"".join(command(b"GET", b"%d" % name) for name in names), len(names)


async def test_answers_go_to_whoever_asked() -> None:
    """However many ask at once, and however many commands each sends."""
    async with asked(echo) as client:
        questions = [range(at * 10, at * 10 + at % 4 + 1) for at in range(200)]
        answers = await asyncio.gather(*(client.ask(*gets(*names), 5.0) for names in questions))
        assert answers == [[b"%d" % name for name in names] for names in questions]


async def test_answers_may_come_in_pieces() -> None:
    """Byte by byte, over the borders of answers."""

    async def dribble(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        for byte in b"*2\r\n$-1\r\n$%d\r\n%b\r\n" % (len(words[-1]), words[-1]):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)

    async with asked(dribble) as client:
        answers = await asyncio.gather(*(client.ask(*gets(at, at + 1), 5.0) for at in range(20)))
        assert answers == [[[None, b"%d" % at], [None, b"%d" % (at + 1)]] for at in range(20)]


async def test_whoever_gives_up_leaves_the_others_theirs() -> None:
    """Answers that come too late, or for nobody, are thrown away; the connection stays."""
    seen: set[asyncio.StreamWriter] = set()

    async def slow(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        seen.add(writer)
        await asyncio.sleep(0.05)
        await echo(words, writer)

    async with asked(slow) as client:
        late = asyncio.create_task(client.ask(*gets(1, 2), 0.02))
        gone = asyncio.create_task(client.ask(*gets(3), 5.0))
        kept = asyncio.create_task(client.ask(*gets(4), 5.0))
        await asyncio.sleep(0.01)
        gone.cancel()
        with pytest.raises(TimeoutError):
            await late
        assert await kept == [b"4"]
        assert await client.ask(*gets(5), 5.0) == [b"5"]
        assert len(seen) == 1


async def test_a_store_that_fell_silent_is_asked_anew_though_nobody_waits_so_long() -> None:
    """A connection that gives no answers is given up after its time, even if every caller leaves sooner."""
    seen: list[asyncio.StreamWriter] = []

    async def silent_at_first(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        if writer not in seen:
            seen.append(writer)
        if writer is not seen[0] or words[-1] == b"1":
            await echo(words, writer)

    async with asked(silent_at_first, silence=0.3) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        begun, answers = time.monotonic(), None
        while answers is None and time.monotonic() < begun + 5:
            with contextlib.suppress(TimeoutError):  # As a call whose caller left: its task is cancelled.
                answers = await asyncio.wait_for(client.ask(*gets(2), 5.0), 0.05)
        assert answers == [b"2"]
        assert len(seen) == 2
        assert 0.2 < time.monotonic() - begun < 2


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    """No count can be trusted after it; the next question goes over a new one."""
    extra = [b"+surprise\r\n"]

    async def talkative(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        await echo(words, writer)
        writer.write(extra.pop() if extra else b"")

    async with asked(talkative) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        await asyncio.sleep(0.02)
        assert await client.ask(*gets(2), 5.0) == [b"2"]


async def test_what_is_not_the_protocol_ends_the_connection() -> None:
    """Somebody else listens there."""

    async def web(_words: list[bytes], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with asked(web) as client:
        with pytest.raises(ConnectionError):
            await client.ask(*gets(1), 5.0)


async def test_a_question_that_broke_off_is_asked_once_more() -> None:
    """On a new connection; and if that breaks too, it is told."""
    broken = [1, 2, 3]

    async def breaking(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        if words[-1] == b"7" and broken:
            broken.pop()
            writer.transport.abort()
        else:
            await echo(words, writer)

    async with asked(breaking) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        with pytest.raises(ConnectionError):
            await client.ask(*gets(7), 5.0)
        assert await client.ask(*gets(2), 5.0) == [b"2"]
        assert await client.ask(*gets(7), 5.0) == [b"7"]


async def test_a_silent_store_is_given_up_after_its_timeout() -> None:
    """Even if hardly anybody who asks has the time to wait for that; whoever has is asked for on a new connection."""

    async def silent(_words: list[bytes], _writer: asyncio.StreamWriter) -> None:
        return None

    async with asked(silent, silence=0.2) as client:
        begun = time.monotonic()
        patient = asyncio.create_task(client.ask(*gets(1), 5.0))
        await asyncio.sleep(0.02)
        first = client._connection
        while time.monotonic() - begun < 0.25:
            with pytest.raises(TimeoutError):
                await client.ask(*gets(2), 0.02)
        patient.cancel()
        assert client._connection is not first


@pytest.mark.parametrize(
    ("text", "error"), [("LOADING data", NotReadyError), ("NOAUTH no", NotReadyError), ("WRONGTYPE no", RedisResponseError)]
)
async def test_the_store_s_errors_are_raised(text: str, error: type[Exception]) -> None:
    """Only for whoever asked; a store that is not ready yet is told apart from one that cannot do what was asked."""

    async def refusing(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        if words[-1] == b"7":
            writer.write(f"-{text}\r\n".encode())
        else:
            await echo(words, writer)

    async with asked(refusing) as client:
        good, bad = await asyncio.gather(client.ask(*gets(1, 2), 5.0), client.ask(*gets(6, 7), 5.0), return_exceptions=True)
        assert good == [b"1", b"2"]
        assert isinstance(bad, error)
        assert await client.ask(*gets(3), 5.0) == [b"3"]


async def test_a_first_caller_in_a_hurry_does_not_end_the_connecting() -> None:
    """The password is sent first, and the others wait for the connection that the first began."""
    heard: list[list[bytes]] = []

    async def locked(words: list[bytes], writer: asyncio.StreamWriter) -> None:
        heard.append(words)
        if words[0] == b"AUTH":
            await asyncio.sleep(0.1)
        await echo(words, writer)

    async with asked(locked, password="sesame") as client:
        hurried = asyncio.create_task(client.ask(*gets(1), 0.02))
        await asyncio.sleep(0)
        assert await client.ask(*gets(2), 5.0) == [b"2"]
        with pytest.raises(TimeoutError):
            await hurried
        assert heard == [[b"AUTH", b"sesame"], [b"GET", b"2"]]
        assert "sesame" not in repr(client.address)


async def test_nobody_there_is_told_at_once() -> None:
    """A refused connection is no timeout."""
    client = StoreClient(Address("127.0.0.1", 1), timeout=5.0)
    with pytest.raises(ConnectionError):
        await client.ask(*gets(1), 5.0)
    unknown = StoreClient(Address("no-such-host.invalid", 1), timeout=5.0)
    with pytest.raises(ConnectionError):
        await unknown.ask(*gets(1), 5.0)


def certificate(folder: Path) -> tuple[str, ssl.SSLContext]:
    """A certificate of this machine's, and what a server needs to use it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path, key_path = folder / "store.pem", folder / "key.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path, key_path)
    return str(path), context


async def test_a_store_behind_tls_is_asked_if_its_certificate_is_trusted(tmp_path: Path) -> None:
    """And not if it is not."""
    trusted, tls = certificate(tmp_path)
    async with asked(echo, tls=tls, ca_file=trusted) as client:
        assert await client.ask(*gets(1, 2), 5.0) == [b"1", b"2"]
    async with asked(echo, tls=tls) as client:
        with pytest.raises(ConnectionError):
            await client.ask(*gets(1), 5.0)


class Neighbour(threading.Thread):
    """A store in a thread of its own, which answers while the event loop is not looking; it hangs up on whoever asks for 0."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = Address("127.0.0.1", self._listening.getsockname()[1])
        self.asked: list[bytes] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection:
                self._serve(connection)

    def close(self) -> None:
        """Accept nobody any more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _serve(self, connection: socket.socket) -> None:
        commands = hiredis.Reader()
        while data := connection.recv(65536):
            commands.feed(data)
            while (words := commands.gets()) is not False:
                self.asked.append(words[-1])
                if words[-1] == b"0":
                    return
                connection.sendall(b"$%d\r\n%b\r\n" % (len(words[-1]), words[-1]))


@pytest.fixture
def neighbour() -> Iterator[Neighbour]:
    store = Neighbour()
    store.start()
    yield store
    store.close()
    store.join(5)


@asynccontextmanager
async def client_of(store: Neighbour) -> AsyncIterator[StoreClient]:
    client = StoreClient(store.address, timeout=5.0)
    try:
        yield client
    finally:
        client.close()


async def test_the_answer_of_a_store_nearby_takes_no_turn_of_the_loop(
    neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few commands are looked for on the spot; many are left to the event loop."""
    monkeypatch.setattr(connection, "GLANCE_SECONDS", 5.0)
    async with client_of(neighbour) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        for names, expected in (((2, 3), False), (range(1, connection.GLANCE_QUESTIONS + 2), True)):
            turned = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(turned.set_result, None)
            assert await client.ask(*gets(*names), 5.0) == [b"%d" % name for name in names]
            assert turned.done() == expected


async def test_a_store_far_away_is_not_looked_for_again_for_a_while(
    neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an answer that was not there in time, so many questions go by the event loop alone; every answer comes."""
    looks = 0

    def nothing_yet(_file: int, _size: int) -> bytes:
        nonlocal looks
        looks += 1
        raise BlockingIOError

    monkeypatch.setattr(connection, "GLANCE_SECONDS", -1.0)
    async with client_of(neighbour) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        monkeypatch.setattr(os, "read", nothing_yet)
        for name in range(1, 2 * connection.GLANCE_AGAIN + 1):
            assert await client.ask(*gets(name), 5.0) == [b"%d" % name]
        assert 1 <= looks <= 2


async def test_a_store_that_hangs_up_while_it_is_looked_for_is_asked_once_more(
    neighbour: Neighbour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event loop finds that the connection is gone; the question goes over a new one, and if that breaks too, it is told."""
    monkeypatch.setattr(connection, "GLANCE_SECONDS", 5.0)
    async with client_of(neighbour) as client:
        assert await client.ask(*gets(1), 5.0) == [b"1"]
        with pytest.raises(ConnectionError):
            await client.ask(*gets(0), 5.0)
        assert neighbour.asked == [b"1", b"0", b"0"]
        assert await client.ask(*gets(2), 5.0) == [b"2"]
