"""GRPCInferenceService of the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from ml_platform.v1 import auth_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import UNAUTHENTICATED
from ml_platform_server.open_inference import (
    Message,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from ml_platform_server.serving.open_inference.infer import infer
from ml_platform_server.serving.open_inference.metadata import ServedModels, described, meant
from ml_platform_server.serving.rpc.in_flight import InFlight


class OpenInferenceService:
    """Predictions for clients of Triton and KServe.

    Args:
        models: the models that are served.
        ready: whether this service can serve, as grpc.health.v1 has it.
        in_flight: what is worked on at once; without a limit by default.
    """

    # The protocol's own file declares none.
    SCOPES = {  # noqa: RUF012  # never changed
        "ServerLive": UNAUTHENTICATED,
        "ServerReady": UNAUTHENTICATED,
        "ServerMetadata": auth_pb2.SCOPE_AUTHENTICATED,
        "ModelReady": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
        "ModelMetadata": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
        "ModelInfer": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
    }

    def __init__(self, *, models: ServedModels, ready: Callable[[], bool], in_flight: InFlight | None = None) -> None:
        self._models = models
        self._ready = ready
        self._in_flight = in_flight or InFlight()

    async def ServerLive(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Live, since it answers."""
        return ServerLiveResponse(live=True)

    async def ServerReady(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Ready if the service is healthy."""
        return ServerReadyResponse(ready=self._ready())

    async def ServerMetadata(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """What this server is."""
        return ServerMetadataResponse(name="ml-platform", version=version("ml-platform-server"))

    async def ModelReady(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Whether a model answers."""
        try:
            await meant(self._models, request.name, request.version)
        except PlatformError:
            return ModelReadyResponse(ready=False)
        return ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """What a model takes and gives."""
        return described(await meant(self._models, request.name, request.version))

    async def ModelInfer(self, request: Message, call: Call) -> Message:
        """Infer."""
        size = request.ByteSize()
        # The shape is the caller's claim and is checked later: no row takes less than a byte.
        claimed = max((tensor.shape[0] for tensor in request.inputs[:1] if tensor.shape), default=1)
        with self._in_flight.of(max(1, min(claimed, size)), size):
            return await infer(await meant(self._models, request.model_name, request.model_version), request, call.log_fields)
