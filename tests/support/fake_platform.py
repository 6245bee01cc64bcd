"""A platform that misbehaves on demand: a gRPC server whose answers a test decides, for faults that the real one shows rarely.

It runs in threads, not on an event loop, so that it never shares one with an asynchronous client under test.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message
from grpc_status import rpc_status

from ml_platform import rpcs
from ml_platform.rpcs import MethodSpec
from ml_platform_server.errors import PlatformError, to_status

RPCS: dict[str, MethodSpec[Any, Any]] = {rpc.path: rpc for rpc in vars(rpcs).values() if isinstance(rpc, MethodSpec)}
CORRELATION_ID = "request-of-the-fake"


@dataclass(frozen=True)
class Bare:
    """A failure without details, as something between the two sends it."""

    code: grpc.StatusCode
    details: str = "as if by a proxy"


@dataclass(frozen=True)
class Hang:
    """Answers nothing until the caller goes away."""


# A message, a failure, or a function of the request that gives one; for a stream, a list of them.
PlainPrediction = Message | PlatformError | Bare | Hang | Callable[[Any], Any]


@dataclass
class Seen:
    """One call as the fake saw it."""

    path: str
    request: Any
    metadata: dict[str, str]
    time_remaining: float | None
    gone: threading.Event = field(default_factory=threading.Event)


class FakePlatform(grpc.GenericRpcHandler):
    """The fake. `answer(rpc, first, second)` scripts answers in order, the last one for ever; `seen` holds what was asked.

    For a stream, each answer is a list of messages, failures and `Hang`s.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._answers: dict[str, deque[Any]] = defaultdict(deque)
        self._arrival = threading.Condition()
        self._server: grpc.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The address for a client."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, rpc: MethodSpec[Any, Any], *answers: PlainPrediction | Sequence[PlainPrediction]) -> None:
        """Say what a method answers from now on."""
        self._answers[rpc.path] = deque(answers)

    def calls(self, rpc: MethodSpec[Any, Any]) -> list[Seen]:
        """The calls of one method."""
        return [call for call in self.seen if call.path == rpc.path]

    def wait_for(self, rpc: MethodSpec[Any, Any], timeout: float = 10.0) -> None:
        """Wait until a method has been called."""
        with self._arrival:
            assert self._arrival.wait_for(lambda: bool(self.calls(rpc)), timeout), f"{rpc.name} was not called"

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
        self._server.add_generic_rpc_handlers((self,))
        bound = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        assert bound, f"port {self.port} is taken"
        self.port = bound
        self._server.start()

    def stop(self) -> None:
        """Go away, as a server that is killed does."""
        if self._server is not None:
            self._server.stop(grace=None).wait()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Find the handler of a method: every method of the contract has one."""
        rpc = RPCS.get(handler_call_details.method)
        if rpc is None:
            return None
        make, behaviour = {
            rpcs.WATCH_JOB: (grpc.unary_stream_rpc_method_handler, self._stream),
            rpcs.STREAM_PREDICT: (grpc.stream_stream_rpc_method_handler, self._duplex),
        }.get(rpc, (grpc.unary_unary_rpc_method_handler, self._unary))
        return make(
            lambda request, context: behaviour(rpc, request, context),
            request_deserializer=rpc.request.FromString,
            response_serializer=rpc.response.SerializeToString,
        )

    def _unary(self, rpc: MethodSpec[Any, Any], request: Message, context: grpc.ServicerContext) -> Message:
        call = self._note(rpc, request, context)
        return _given(self._next(rpc), call, context)

    def _stream(self, rpc: MethodSpec[Any, Any], request: Message, context: grpc.ServicerContext) -> Iterator[Message]:
        call = self._note(rpc, request, context)
        for answer in self._next(rpc):
            yield _given(answer, call, context)

    def _duplex(self, rpc: MethodSpec[Any, Any], requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
        for request in requests:
            yield self._unary(rpc, request, context)

    def _note(self, rpc: MethodSpec[Any, Any], request: Message, context: grpc.ServicerContext) -> Seen:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        call = Seen(rpc.path, request, metadata, context.time_remaining())
        context.add_callback(call.gone.set)
        with self._arrival:
            self.seen.append(call)
            self._arrival.notify_all()
        return call

    def _next(self, rpc: MethodSpec[Any, Any]) -> Any:
        answers = self._answers[rpc.path]
        assert answers, f"the test does not say what {rpc.name} answers"
        return answers.popleft() if len(answers) > 1 else answers[0]


def _given(answer: Any, call: Seen, context: grpc.ServicerContext) -> Message:
    if callable(answer):
        answer = answer(call.request)
    if isinstance(answer, Hang):
        call.gone.wait(timeout=30)
        context.abort(grpc.StatusCode.CANCELLED, "the caller went away")
    if isinstance(answer, Bare):
        context.abort(answer.code, answer.details)
    if isinstance(answer, PlatformError):
        context.abort_with_status(rpc_status.to_status(to_status(answer, CORRELATION_ID)))
    assert isinstance(answer, Message)
    return answer
