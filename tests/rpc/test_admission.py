"""Who is let in: decided from the metadata of a call alone, before anything of its request is read."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ml_platform_server import logs, open_inference, scopes
from ml_platform_server.errors import PlatformError
from ml_platform_server.interceptors import auth
from ml_platform_server.method import methods_of
from ml_platform_server.routes import fallback
from ml_platform_server.service_specs import SERVICE_SPECS
from ml_platform_server.services.open_inference import OpenInferenceService
from ml_platform_server.settings import ServerSettings
from ml_platform_server.store import keys as keys_module
from ml_platform_server.transport.grpc_aio import transport
from ml_platform_server.transport.grpc_aio.handlers import _Fallback
from tests.support.echo import ECHO, KINDS, NAME, Echo, EchoClient, EchoService
from tests.support.errors import rich_error
from tests.support.frame import Frame, rpc_server, running_frame

every_kind = pytest.mark.parametrize("kind", KINDS)
streams = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "Unary"])


@pytest.fixture
def service() -> EchoService:
    return EchoService()


@pytest.fixture
async def frame(tmp_path: Path, service: EchoService) -> AsyncIterator[Frame]:
    async with running_frame(tmp_path, [(ECHO, service)]) as running:
        yield running


@pytest.fixture
def client(frame: Frame) -> EchoClient:
    return EchoClient(frame.channel, metadata=frame.metadata)


async def brief(call: Any) -> tuple[str, str]:
    """The code and reason with which a call ends; the call may be of any kind."""
    ended = call if isinstance(call, grpc.aio.StreamUnaryCall | grpc.aio.UnaryUnaryCall) else drained(call)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ended
    return rich_error(caught.value).brief


async def drained(call: Any) -> list[Any]:
    """Every response of a stream."""
    return [response async for response in call]


def silent(channel: grpc.aio.Channel, path: str, metadata: Any = ()) -> Any:
    """A call that brings metadata and never a message."""
    return channel.stream_stream(path)(metadata=metadata, timeout=20)


def guess() -> str:
    """A key that is well-formed and nobody's."""
    body = f"mlp_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
    return f"{body}_{keys_module._checksum(body)}"


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@pytest.mark.parametrize("metadata", [(), bearer("mlp_x"), bearer(guess())], ids=["no key", "malformed", "unknown"])
@every_kind
async def test_a_stranger_is_refused_before_a_message_comes(frame, kind, metadata):
    """A call without a valid key ends though its request never came: the server does not wait for it, so it does not read it."""
    reason = "CREDENTIALS_INVALID" if metadata else "CREDENTIALS_MISSING"
    assert await brief(silent(frame.channel, f"/{NAME}/{kind}", metadata)) == ("UNAUTHENTICATED", reason)


@every_kind
async def test_a_key_without_the_scope_is_refused_before_a_message_comes(frame, kind):
    """A key that lacks the scope gets no further than a stranger."""
    key, _ = await frame.keys.create("other", scopes.parse(["models:read"]))
    assert await brief(silent(frame.channel, f"/{NAME}/{kind}", bearer(key))) == ("PERMISSION_DENIED", "SCOPE_MISSING")


async def test_no_method_of_the_contract_reads_a_strangers_request(tmp_path):
    """Every method that a server can offer, those without a key's need aside, refuses strangers without their request."""

    class Anything(OpenInferenceService):
        def __init__(self) -> None:
            self._ready = bool

        def __getattr__(self, name: str) -> Any:
            async def method(request: object, call: object) -> None:
                raise AssertionError("a stranger got this far")

            return method

    services = [(spec.service, Anything()) for spec in SERVICE_SPECS]
    async with running_frame(tmp_path, services) as frame:
        for service, _ in services:
            for method in methods_of(service, OpenInferenceService.SCOPES):
                call: Any = silent(frame.channel, method.full_name)
                if method.name in {"ServerLive", "ServerReady"}:
                    assert await call.read() != grpc.aio.EOF
                else:
                    assert await brief(call) == ("UNAUTHENTICATED", "CREDENTIALS_MISSING"), method.full_name


async def test_an_open_method_answers_without_reading(tmp_path):
    """ServerLive needs no key, and takes nothing from its caller: whatever is sent to it is not received."""
    inference = OpenInferenceService(models=None, ready=bool)  # type: ignore[arg-type]  # nothing is looked up
    async with running_frame(tmp_path, [(open_inference.SERVICE, inference)]) as frame:
        call: Any = frame.channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert open_inference.ServerLiveResponse.FromString(await call(b"\x0a" * 2**20, timeout=20)).live


@every_kind
async def test_a_key_made_a_moment_ago_works_at_once(frame, service, kind):
    """The first call with a key that this process has not met is answered like every other, requests and responses included."""
    key, _ = await frame.keys.create("new", scopes.parse(["all"]))
    expected = {"Unary": ["a"], "ServerStream": ["a", "a"], "ClientStream": ["ab"], "Both": ["a", "b"]}[kind]
    client = EchoClient(frame.channel, metadata=bearer(key))
    assert await client.call(kind, Echo(text="a"), Echo(text="b")) == expected
    assert service.calls[0].principal.name == "new"


async def test_a_call_that_brings_no_message_is_told_so(frame):
    """A caller who is known only by then, and ends without a request, gets INVALID_ARGUMENT."""
    key, _ = await frame.keys.create("new", scopes.parse(["all"]))
    call = frame.channel.stream_unary(f"/{NAME}/Unary")(iter([]), metadata=bearer(key), timeout=20)
    assert await brief(call) == ("INVALID_ARGUMENT", "INVALID_FIELDS")


@streams
async def test_a_stream_ends_when_its_key_is_revoked(frame, service, kind):
    """A key's open streams end with the key, each with the reason."""
    key, row = await frame.keys.create("short", scopes.parse(["all"]))
    call = EchoClient(frame.channel, metadata=bearer(key)).start(kind, Echo(text="wait"), timeout=20)
    await asyncio.wait_for(service.waiting.wait(), 20)
    await frame.keys.revoke(row.key_id)
    assert await brief(call) == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")


async def test_others_streams_go_on_when_a_key_is_revoked(frame, client, service):
    """The end of one key is no business of another's streams."""
    _, row = await frame.keys.create("short", scopes.parse(["all"]))
    await frame.keys._read()
    call = client.start("Both", Echo(text="wait"), timeout=20)
    await asyncio.wait_for(service.waiting.wait(), 20)
    await frame.keys.revoke(row.key_id)
    service.go_on.set()
    assert [response.text async for response in call] == ["wait"]


@every_kind
async def test_a_revoked_key_is_refused(frame, client, service, kind):
    """A key that was known a moment ago is refused once it is revoked."""
    key, row = await frame.keys.create("short", scopes.parse(["all"]))
    other = EchoClient(frame.channel, metadata=bearer(key))
    await other.call("Unary", Echo(text="a"))
    await frame.keys.revoke(row.key_id)
    assert await brief(other.start(kind, Echo(text="a"), timeout=20)) == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")


async def test_a_peer_that_guesses_is_slowed(frame, client, monkeypatch):
    """Of many unknown keys of one peer at once few are looked up; the rest is refused unseen. Known keys are served meanwhile."""
    refusals = await asyncio.gather(*(brief(silent(frame.channel, f"/{NAME}/Unary", bearer(guess()))) for _ in range(60)))
    assert set(refusals) == {("UNAUTHENTICATED", "CREDENTIALS_INVALID"), ("RESOURCE_EXHAUSTED", "OVERLOADED")}
    assert await client.call("Unary", Echo(text="a")) == ["a"]


async def test_many_callers_may_begin_with_one_new_key_at_once(frame):
    """A key that was made a moment ago is one key, however many calls bring it before it is known."""
    key, _ = await frame.keys.create("new", scopes.parse(["all"]))
    client = EchoClient(frame.channel, metadata=bearer(key))
    assert await asyncio.gather(*(client.call("Unary", Echo(text="a"), timeout=20) for _ in range(100))) == [["a"]] * 100


async def test_refusals_of_one_peer_take_longer_and_longer(monkeypatch):
    """Once a peer was refused often within a minute, each further refusal waits."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr("ml_platform_server.interceptors.auth.asyncio.sleep", sleep)
    peers = auth._Peers(delay=1.5)
    for number in range(auth._FREE_REFUSALS + 3):
        with pytest.raises(PlatformError):
            async with peers.attempt(f"ipv4:10.0.0.1:{number}", "a key"):
                raise keys_module.invalid_key()
    assert (waits, peers._waiting) == ([1.5] * 3, {})


async def test_unknown_methods_share_one_handler():
    """A call of a method that does not exist makes no class of its own and is refused without being read."""
    handlers = _Fallback(fallback(lambda _, handle: handle))

    class Details:
        invocation_metadata = ()

        def __init__(self, method: str) -> None:
            self.method = method

    first, second = (handlers.service(Details(name)) for name in ("/a/b", "/c/d"))  # type: ignore[arg-type]  # as gRPC's
    assert type(first) is type(second)


async def test_the_log_has_the_name_of_an_unknown_method_cut(frame, monkeypatch):
    """A stranger's method name of many kilobytes does not fill the log."""
    events: list[Any] = []
    monkeypatch.setattr(logs, "event_writer", lambda: events.append)
    server = rpc_server(ServerSettings(port=0))
    await server.open()
    await server.serve([], keys=frame.keys, calls=frame.calls)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert await brief(silent(channel, "/x/" + "y" * 5000)) == ("UNIMPLEMENTED", "UNIMPLEMENTED")
    finally:
        await server.stop(grace=0.1)
    assert events[0]["method"] == "/x/" + "y" * 247


async def test_health_takes_no_long_names(frame):
    """Strangers may ask for health, but not with a request of any size."""
    stub = health_pb2_grpc.HealthStub(frame.channel)
    assert (await stub.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Check(health_pb2.HealthCheckRequest(service="s" * 2**20))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_health_that_cannot_be_parsed_is_refused(frame):
    """Bytes that are no request are the caller's fault, and no traceback in the log."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await frame.channel.unary_unary("/grpc.health.v1.Health/Check")(b"\xff\xff")
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_reflection_takes_no_long_names(frame):
    """The same holds for reflection, for each message of its stream."""
    stub = reflection_pb2_grpc.ServerReflectionStub(frame.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol="s" * 2**20)]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_more_calls_than_a_server_takes_are_refused_with_advice(tmp_path, service):
    """Beyond its number of unary calls a server refuses further ones, unread, while health, streams and those within go on."""
    async with running_frame(tmp_path, [(ECHO, service)], max_control_in_flight=2) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        await client.call("Unary", Echo(text="a"))
        waiting = [client.start("Unary", Echo(text="wait"), timeout=60) for _ in range(2)]
        async with asyncio.timeout(20):
            while len(service.calls) < 3:  # noqa: ASYNC110  # nothing signals it
                await asyncio.sleep(0.01)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await drained(silent(frame.channel, f"/{NAME}/Unary", frame.metadata))
        error = rich_error(caught.value)
        assert (*error.brief, error.retry_after) == ("RESOURCE_EXHAUSTED", "OVERLOADED", 1.0)
        assert await client.call("Both", Echo(text="a")) == ["a"]
        await health_pb2_grpc.HealthStub(frame.channel).Check(health_pb2.HealthCheckRequest())
        service.go_on.set()
        assert [(await call).text for call in waiting] == ["wait", "wait"]
        assert await client.call("Unary", Echo(text="a")) == ["a"]


async def test_a_connection_too_many_is_refused_at_once(tmp_path, service, monkeypatch):
    """Idle sockets without a key take no more connections than there may be; one more is closed at once, and calls go on."""
    monkeypatch.setattr(transport, "most_connections", lambda: 3)
    async with running_frame(tmp_path, [(ECHO, service)]) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        assert await client.call("Unary", Echo(text="a")) == ["a"]
        idle = [await asyncio.open_connection("127.0.0.1", frame.server.port) for _ in range(4)]
        reader, _ = idle[-1]
        async with asyncio.timeout(20):
            while await reader.read(1000):
                pass
        assert await client.call("Unary", Echo(text="a")) == ["a"]
        for _, writer in idle:
            writer.close()


async def test_two_thousand_watches_opened_at_once_all_get_their_first_message(tmp_path, service):
    """However many streams begin together, each is handed over, and none is dropped."""
    async with running_frame(tmp_path, [(ECHO, service)]) as frame, AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        address = f"127.0.0.1:{frame.server.port}"
        channels = [await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options)) for _ in range(8)]
        clients = [EchoClient(channel, metadata=frame.metadata) for channel in channels]
        watches = [client.start("ServerStream", Echo(text="wait"), timeout=120) for client in clients for _ in range(250)]
        assert {(await watch.read()).text for watch in watches} == {"wait"}
        service.go_on.set()


def test_gRPC_knows_every_option_that_is_set():  # noqa: N802  # its own name
    """GRPC ignores an option that it does not know, so a misspelt one would do nothing."""
    core = next(Path(grpc.__file__).parent.glob("_cython/cygrpc.*")).read_bytes()
    for name, _ in transport._options(ServerSettings(), shares_port=False):
        assert name.encode() in core, name


class Peers(EchoService):
    """Remembers whence calls came."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: set[str] = set()

    async def Unary(self, request: Any, call: Any) -> Any:  # noqa: N802  # named as in the contract
        self.peers.add(call.context.peer())
        return request


async def test_a_connection_of_some_age_ends_without_anybody_noticing(tmp_path):
    """When clients are asked to connect anew, no call is lost, and streams that are open go on for as long as they will."""
    service = Peers()
    async with running_frame(tmp_path, [(ECHO, service)], max_connection_age=0.2) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        stream = client.start("Both", Echo(text="wait"), timeout=60)
        await asyncio.wait_for(service.waiting.wait(), 20)
        async with asyncio.timeout(60):
            while len(service.peers) < 4:
                assert await client.call("Unary", Echo(text="a"), timeout=20) == ["a"]
        service.go_on.set()
        assert [response.text async for response in stream] == ["wait"]
