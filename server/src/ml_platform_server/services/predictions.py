"""PredictionService of the contract."""

from __future__ import annotations

from ml_platform.v1 import predictions_pb2
from ml_platform_server.call import Call
from ml_platform_server.serving.engine import PredictionEngine


class PredictionService:
    """Predictions by the engine."""

    def __init__(self, *, engine: PredictionEngine) -> None:
        self._engine = engine

    async def Predict(self, request: predictions_pb2.PredictRequest, call: Call) -> predictions_pb2.PredictResponse:
        """Predict one row."""
        return await self._engine.predict(request, call.facts)
