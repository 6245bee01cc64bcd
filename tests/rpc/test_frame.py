"""What every call passes, seen from outside, over all four kinds of RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from ml_platform.v1 import errors_pb2
from ml_platform_server import scopes
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.method import ContractError
from ml_platform_server.settings import ServerSettings
from ml_platform_server.start import StartupError
from tests.support.echo import ECHO, KINDS, NAME, UNSCOPED, Echo, EchoClient, EchoService
from tests.support.errors import rich_error
from tests.support.frame import Frame, rpc_server, running_frame

every_kind = pytest.mark.parametrize("kind", KINDS)


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


async def failure(client: EchoClient, kind: str, *requests: object, **options: object) -> tuple[str, str]:
    """The code and reason of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(kind, *requests, **options)
    return rich_error(caught.value).brief


@pytest.mark.parametrize(
    ("kind", "expected"), [("Unary", ["a"]), ("ServerStream", ["a", "a"]), ("ClientStream", ["ab"]), ("Both", ["a", "b"])]
)
async def test_every_kind_of_call_reaches_its_servicer(client, kind, expected):
    """Each kind of RPC gets its requests and gives its responses."""
    assert expected == await client.call(kind, Echo(text="a"), Echo(text="b"))


@every_kind
async def test_the_correlation_id_is_the_callers(client, service, kind):
    """The caller's x-request-id reaches the servicer and comes back in the trailing metadata."""
    call = client.start(kind, Echo(text="a"), metadata=(*client.metadata, ("x-request-id", "mine-1")))
    _ = [response async for response in call] if KINDS[kind][1] else await call
    trailing = dict(await call.trailing_metadata())
    assert (service.calls[0].correlation_id, trailing["x-request-id"]) == ("mine-1", "mine-1")


async def test_a_correlation_id_that_is_not_sane_is_replaced(client, service):
    """A correlation id that could break a log line is not taken over."""
    await client.call("Unary", Echo(), metadata=(*client.metadata, ("x-request-id", 'a "quoted" one')))
    assert len(service.calls[0].correlation_id) == 24


@every_kind
async def test_a_call_without_a_key_is_refused(client, service, kind):
    """No key means CREDENTIALS_MISSING, and the servicer never hears of it."""
    brief = await failure(client, kind, Echo(text="a"), metadata=())
    assert (brief, service.calls) == (("UNAUTHENTICATED", "CREDENTIALS_MISSING"), [])


@pytest.mark.parametrize("key", ["mlp_x", "mlp_000000000000_" + "0" * 64 + "_00000000", "Ünïcode", "a b"])
async def test_a_key_that_is_none_is_refused(client, key):
    """A malformed or unknown key means CREDENTIALS_INVALID."""
    metadata = (("authorization", f"Bearer {key}".encode().decode("ascii", "ignore")),)
    assert await failure(client, "Unary", Echo(), metadata=metadata) == ("UNAUTHENTICATED", "CREDENTIALS_INVALID")


async def test_the_scheme_is_compared_without_regard_to_case(client, frame):
    """HTTP's authentication schemes have no case, so "bearer" is as good as "Bearer"."""
    assert await client.call("Unary", Echo(text="a"), metadata=(("authorization", f"bearer {frame.key}"),)) == ["a"]


@every_kind
async def test_a_key_without_the_scope_is_refused(client, frame, kind):
    """A key lacking the method's scope means SCOPE_MISSING, which names the scope."""
    key, _ = await frame.keys.create("other", scopes.parse(["models:read"]))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(kind, Echo(text="a"), metadata=(("authorization", f"Bearer {key}"),))
    error = rich_error(caught.value)
    assert (*error.brief, error.metadata["scope"]) == ("PERMISSION_DENIED", "SCOPE_MISSING", "platform:read")


@every_kind
async def test_a_request_that_breaks_a_rule_is_refused(client, kind):
    """The contract's rules hold for each message of each kind of RPC, and the violation names the field."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(kind, Echo(text="far too long a text"))
    error = rich_error(caught.value)
    assert (*error.brief, error.fields) == ("INVALID_ARGUMENT", "INVALID_FIELDS", ("text",))


@every_kind
async def test_bytes_that_are_no_message_are_an_invalid_argument(client, kind):
    """What cannot be parsed is the caller's fault, not UNKNOWN or INTERNAL."""
    assert await failure(client, kind, b"\xff\xff\xff") == ("INVALID_ARGUMENT", "INVALID_FIELDS")


@pytest.mark.parametrize("text", ["raise", "wrong", "cancel"])
@every_kind
async def test_an_unforeseen_failure_is_internal_and_shows_nothing(client, kind, text):
    """Whatever a servicer does wrong, the caller gets INTERNAL with an id, and none of the details."""
    if (kind, text) == ("ClientStream", "wrong"):
        text = "raise"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(kind, Echo(text=text))
    error = rich_error(caught.value)
    assert (*error.brief, "secret" in error.message) == ("INTERNAL", "INTERNAL", False)


@pytest.mark.parametrize("path", [f"/{NAME}/Nothing", "/no.such.Service/Method", "/x/" + "y" * 5000])
@pytest.mark.parametrize("shape", ["unary_unary", "stream_stream"])
async def test_a_method_that_does_not_exist_is_unimplemented(frame, path, shape):
    """An unknown method or service gets the rich UNIMPLEMENTED, whatever kind the caller takes it for.

    The stream sends nothing: what grpc.aio sends when its call has just ended is INTERNAL to it, whatever status there is.
    """

    async def nothing() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    method = getattr(frame.channel, shape)(path)
    call = method(b"") if shape == "unary_unary" else method(nothing())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call if shape == "unary_unary" else [response async for response in call]
    assert rich_error(caught.value).brief == ("UNIMPLEMENTED", "UNIMPLEMENTED")


async def test_the_default_deadline_ends_a_unary_call(tmp_path):
    """A unary call without a deadline of its own ends at the server's default with DEADLINE_EXCEEDED."""
    service = EchoService()
    async with running_frame(tmp_path, [(ECHO, service)], default_deadline=0.1) as frame:
        client = EchoClient(frame.channel, metadata=frame.metadata)
        brief = await failure(client, "Unary", Echo(text="wait"), timeout=None)
    assert brief == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")
    await asyncio.wait_for(service.left.wait(), 5)


async def test_the_default_deadline_leaves_streams_alone(tmp_path):
    """A stream without a deadline outlives the server's default for unary calls."""
    service = EchoService()
    async with running_frame(tmp_path, [(ECHO, service)], default_deadline=0.05) as frame:
        call = EchoClient(frame.channel, metadata=frame.metadata).start("ServerStream", Echo(text="wait"), timeout=None)
        await call.read()
        start = time.monotonic()
        asyncio.get_running_loop().call_later(0.2, service.go_on.set)
        assert (await call.read()).text == "wait"
        assert time.monotonic() - start >= 0.19


@every_kind
async def test_a_caller_who_leaves_ends_the_work(client, service, kind):
    """When the caller cancels, the servicer is cancelled too."""
    call = client.start(kind, Echo(text="wait"))
    await asyncio.wait_for(service.waiting.wait(), 5)
    call.cancel()
    await asyncio.wait_for(service.left.wait(), 5)


@every_kind
async def test_a_call_that_a_shutdown_cuts_off_is_told_so(client, frame, service, kind):
    """What still runs when the grace is over ends with SHUTTING_DOWN and the advice to come back."""
    call = client.start(kind, Echo(text="wait"), timeout=20)
    await asyncio.wait_for(service.waiting.wait(), 5)
    await frame.server.stop(grace=0.05)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [response async for response in call] if KINDS[kind][1] else await call
    error = rich_error(caught.value)
    assert (*error.brief, error.retry_after) == ("UNAVAILABLE", "SHUTTING_DOWN", 1.0)


async def test_a_shutdown_waits_for_calls(client, frame, service):
    """A call that ends within the grace gets its answer, and the shutdown takes no longer than that."""
    call = client.start("Unary", Echo(text="wait"), timeout=20)
    await asyncio.wait_for(service.waiting.wait(), 5)
    watch = health_pb2_grpc.HealthStub(frame.channel).Watch(health_pb2.HealthCheckRequest())
    await watch.read()
    start = time.monotonic()
    stopping = asyncio.create_task(frame.server.stop(grace=10))
    await asyncio.sleep(0)
    service.go_on.set()
    assert (await call).text == "wait"
    await stopping
    assert time.monotonic() - start < 5


async def test_errors_fit_into_what_clients_accept(client, service):
    """However long an error's text and list get, they stay below the size at which clients refuse the whole answer."""
    violations = [Violation(f"rows[{number}].name" + "x" * 90, "is wrong " * 10) for number in range(500)]
    service.failure = PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS, "ü" * 20_000, remedy="Correct them.", violations=violations
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call("Unary", Echo(text="raise"))
    error = rich_error(caught.value)
    assert ("INVALID_ARGUMENT", "INVALID_FIELDS", violations[0].field) == (*error.brief, error.fields[0])


async def test_a_repeat_gets_the_first_answer(client, service):
    """A mutating call is done once; its repeat with the same request_id gets the same answer."""
    request = Echo(text="a", request_id="r-1")
    answers = await client.call("Unary", request) + await client.call("Unary", request)
    assert (answers, len(service.calls)) == (["a", "a"], 1)


async def test_a_method_without_a_scope_refuses_to_start(tmp_path):
    """A method that declares no scope keeps the server from starting."""
    with pytest.raises(ContractError, match="declares no scope"):
        async with running_frame(tmp_path, [(UNSCOPED, object())]):
            pass


async def test_a_servicer_that_lacks_a_method_refuses_to_start(tmp_path):
    """A servicer without one of its service's methods keeps the server from starting."""
    with pytest.raises(ContractError, match=r"lacks /tests\.echo\.v1\.EchoService/Unary"):
        async with running_frame(tmp_path, [(ECHO, object())]):
            pass


async def test_a_port_that_is_taken_is_named(frame, tmp_path):
    """A second server on the same port says which port it could not have."""
    second = rpc_server(ServerSettings(port=frame.server.port))
    with pytest.raises(StartupError, match=f"Port {frame.server.port} "):
        await second.open()


async def test_health_and_reflection_need_no_key(frame):
    """Load balancers and grpcurl may ask how the server is and what it offers without a key."""
    reply = await health_pb2_grpc.HealthStub(frame.channel).Check(health_pb2.HealthCheckRequest())
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    listed = await health_pb2_grpc.HealthStub(frame.channel).List(health_pb2.HealthListRequest())
    assert listed.statuses[""] == reply
    stub = reflection_pb2_grpc.ServerReflectionStub(frame.channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = {service.name async for answer in call for service in answer.list_services_response.service}
    assert {
        NAME,
        "grpc.health.v1.Health",
        *(f"grpc.reflection.{version}.ServerReflection" for version in ("v1", "v1alpha")),
    } == names


@pytest.mark.parametrize("symbol", [NAME, f"{NAME}.Unary"])
async def test_reflection_alone_is_enough_to_call(frame, symbol):
    """Asked for a service or a method, reflection gives its file and all that it imports, so that a client needs nothing else."""
    stub = reflection_pb2_grpc.ServerReflectionStub(frame.channel)
    pool, wanted, seen = DescriptorPool(), [f"symbol:{symbol}"], {}
    while wanted:
        kind, _, name = wanted.pop().partition(":")
        question = {"file_containing_symbol": name} if kind == "symbol" else {"file_by_filename": name}
        replies = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(**question)]))
        async for reply in replies:
            for data in reply.file_descriptor_response.file_descriptor_proto:
                file = FileDescriptorProto.FromString(data)
                seen[file.name] = file
                wanted += [f"file:{name}" for name in file.dependency if name not in seen]
    for name in _by_dependency(seen):
        pool.AddSerializedFile(seen[name].SerializeToString())
    assert set(KINDS) == {method.name for method in pool.FindServiceByName(NAME).methods}


def _by_dependency(files: dict) -> list[str]:
    """File names, each after those that it imports."""
    done: list[str] = []
    while len(done) < len(files):
        done += [name for name, file in files.items() if name not in done and set(file.dependency) <= set(done)]
    return done
