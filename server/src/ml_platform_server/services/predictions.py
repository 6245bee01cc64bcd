"""PredictionService of the contract."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable

from ml_platform.v1.predictions_pb2 import (
    BatchPredictRequest,
    PredictRequest,
    StreamPredictRequest,
)
from ml_platform_server.call import Call
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.rpc.batch_rows import Batches
from ml_platform_server.serving.rpc.stream import PredictionStreams


class PredictionService:
    """Predictions by the engine."""

    def __init__(self, *, engine: PredictionEngine, batches: Batches, streams: PredictionStreams) -> None:
        self._engine = engine
        self._batches = batches
        self._streams = streams

    def Predict(self, request: PredictRequest, call: Call) -> Awaitable[bytes]:
        """Predict one row."""
        return self._engine.predict_encoded(request, call.log_fields)

    async def BatchPredict(self, request: BatchPredictRequest, call: Call) -> bytes:
        """Predict many rows."""
        return await self._batches.predict(request, call)

    def StreamPredict(self, requests: AsyncIterator[StreamPredictRequest], call: Call) -> AsyncGenerator[bytes]:
        """Predict as requests come."""
        return self._streams.answers(requests, call)
