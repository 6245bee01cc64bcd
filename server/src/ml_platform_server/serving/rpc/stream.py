"""Answers requests as they come on a stream: many at once, each as soon as it has its answer, none beyond what is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from functools import partial
from typing import NamedTuple

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform.v1.predictions_pb2 import PredictRequest, StreamPredictRequest
from ml_platform_server import protobuf_encoding
from ml_platform_server.call import Call, set_deadline
from ml_platform_server.errors import PlatformError, deadline_exceeded, internal_error, invalid, to_status
from ml_platform_server.serving.rpc.in_flight import InFlight

_log = structlog.get_logger(__name__)

# Gives a PredictResponse on the wire.
Predict = Callable[[PredictRequest, MutableMapping[str, object]], Awaitable[bytes]]


class _StreamedPrediction(NamedTuple):
    """One answer, a StreamPredictResponse on the wire."""

    id: str
    encoded: bytes
    failed: bool


class PredictionStreams:
    """The streams of predictions of one process.

    Args:
        predict: answers one request.
        in_flight: how many requests of one stream may be without an answer, before no more are read.
        deadline: seconds that one request may take, if the stream itself does not end sooner.
        in_flight_of_all: what is worked on at once for all streams together, and batches; without a limit by default.
    """

    def __init__(self, *, predict: Predict, in_flight: int, deadline: float, in_flight_of_all: InFlight | None = None) -> None:
        self._predict = predict
        self._in_flight_of_all = in_flight_of_all or InFlight()
        self._in_flight = in_flight
        self._deadline = deadline
        self._streams: set[_Stream] = set()
        self._closed = False

    async def answers(self, requests: AsyncIterator[StreamPredictRequest], call: Call) -> AsyncGenerator[bytes]:
        """Answer until the caller has ended its side and every request is answered. Close it when done with it.

        Raises:
            PlatformError: INVALID_FIELDS for an id that another unanswered request has, and whatever the reading raises;
                SHUTTING_DOWN, once what had been read is answered, when the server stops.
        """
        if self._closed:
            raise _shutting_down()
        stream = _Stream(
            self._predict,
            call,
            in_flight=self._in_flight,
            deadline=self._deadline,
            in_flight_of_all=self._in_flight_of_all,
        )
        self._streams.add(stream)
        try:
            async with aclosing(stream.run(requests)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            self._streams.discard(stream)
            await stream.close()

    def close(self) -> None:
        """Read no further requests, and end each stream with SHUTTING_DOWN when what it had read is answered."""
        self._closed = True
        for stream in self._streams:
            stream.stop_reading()


class _Stream:
    """One stream: a task that reads, a task for each request in flight, and the queue of the answers to be written."""

    def __init__(self, predict: Predict, call: Call, *, in_flight: int, deadline: float, in_flight_of_all: InFlight) -> None:
        self._predict = predict
        self._in_flight_of_all = in_flight_of_all
        self._call = call
        self._deadline = deadline
        self._slots = asyncio.Semaphore(in_flight)
        self._unanswered: dict[str, asyncio.Task[_StreamedPrediction]] = {}
        # Never longer than there are slots. None: nothing comes any more.
        self._answers: asyncio.Queue[_StreamedPrediction | None] = asyncio.Queue()
        self._reader: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._count = self._failed = 0

    async def run(self, requests: AsyncIterator[StreamPredictRequest]) -> AsyncGenerator[bytes]:
        """Read and answer."""
        self._reader = asyncio.create_task(self._read(requests))
        self._reader.add_done_callback(lambda _: self._answers.put_nowait(None))
        while (answer := await self._answers.get()) is not None:
            # The id is free before its answer is on its way: the caller may use it again as soon as it has it.
            del self._unanswered[answer.id]
            self._failed += answer.failed
            yield answer.encoded
            # Written: only now may the next one be read, so that a caller that does not read is not read from.
            self._slots.release()
        await self._reader

    def stop_reading(self) -> None:
        """Answer what was read, and end."""
        self._stopping.set()

    async def close(self) -> None:
        """Drop what is not answered."""
        tasks = [*self._unanswered.values(), *([self._reader] if self._reader else ())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._call.log_fields.update(requests=self._count, request_errors=self._failed)

    async def _read(self, requests: AsyncIterator[StreamPredictRequest]) -> None:
        reading = asyncio.create_task(self._read_all(requests))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((reading, stopping), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            reading.cancel()
            stopping.cancel()
        if self._unanswered:
            await asyncio.wait(self._unanswered.values())
        if self._stopping.is_set():
            raise _shutting_down()

    async def _read_all(self, requests: AsyncIterator[StreamPredictRequest]) -> None:
        while True:
            await self._slots.acquire()
            request = await anext(requests, None)
            if request is None:
                return
            if request.id in self._unanswered:
                raise invalid("id", f"{request.id[:100]!r} is the id of a request that is not answered yet")
            task = self._unanswered[request.id] = asyncio.create_task(self._answer(request))
            task.add_done_callback(partial(self._answered, request.id))
            self._count += 1

    async def _answer(self, request: StreamPredictRequest) -> _StreamedPrediction:
        latest = time.monotonic() + self._deadline
        sooner = min(latest, self._call.deadline)
        set_deadline(sooner)
        asked = PredictRequest(
            model_name=request.model_name,
            environment=request.environment,
            inputs=request.inputs,
            include_features=request.include_features,
            params=request.params if request.HasField("params") else None,
        )
        try:
            with self._in_flight_of_all.of(1, request.ByteSize()):
                async with asyncio.timeout(sooner - time.monotonic()) as limit:
                    return _answer(request.id, _PREDICTION, await self._predict(asked, {}))
        except PlatformError as error:
            return self._failure(request.id, error)
        except TimeoutError:
            if not limit.expired():
                raise
            return self._failure(request.id, deadline_exceeded("The prediction"))

    def _answered(self, request_id: str, task: asyncio.Task[_StreamedPrediction]) -> None:
        if not task.cancelled() and task.exception() is None:
            answer = task.result()
        else:
            answer = self._failure(request_id, _internal_error(task))
        self._answers.put_nowait(answer)

    def _failure(self, request_id: str, error: PlatformError) -> _StreamedPrediction:
        return _answer(request_id, _ERROR, to_status(error, self._call.correlation_id).SerializeToString())


# The tags of StreamPredictResponse: fields 1, 2 and 3, each of a length that is told.
_ID, _PREDICTION, _ERROR = b"\x0a", b"\x12", b"\x1a"


def _answer(request_id: str, outcome: bytes, encoded: bytes) -> _StreamedPrediction:
    return _StreamedPrediction(
        request_id,
        protobuf_encoding.field(_ID, request_id.encode()) + protobuf_encoding.field(outcome, encoded),
        outcome == _ERROR,
    )


def _internal_error(task: asyncio.Task[_StreamedPrediction]) -> PlatformError:
    """The error for a request that failed in a way nobody foresaw; the stream goes on."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        _log.error("streamed_request_failed", exc_info=error)
    return internal_error()


def _shutting_down() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_SHUTTING_DOWN,
        "The server is shutting down.",
        remedy="Open a new stream, and send the requests again that got no answer.",
        retry_after=1.0,
    )
