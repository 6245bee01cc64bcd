"""GRPCInferenceService of the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from ml_platform.v1 import auth_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import OPEN
from ml_platform_server.open_inference import (
    Message,
    ModelReadyResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from ml_platform_server.serving.inference.infer import infer
from ml_platform_server.serving.inference.models import ServedModels, described, meant


class OpenInferenceService:
    """Predictions for clients of Triton and KServe.

    Args:
        models: the models that are served.
        ready: whether this service can serve, as grpc.health.v1 has it.
    """

    # The protocol's own file cannot say them.
    SCOPES = {  # noqa: RUF012  # never changed
        "ServerLive": OPEN,
        "ServerReady": OPEN,
        "ServerMetadata": auth_pb2.SCOPE_AUTHENTICATED,
        "ModelReady": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
        "ModelMetadata": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
        "ModelInfer": auth_pb2.SCOPE_PREDICTIONS_PREDICT,
    }

    def __init__(self, *, models: ServedModels, ready: Callable[[], bool]) -> None:
        self._models = models
        self._ready = ready

    async def ServerLive(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Live, since it answers."""
        return ServerLiveResponse(live=True)

    async def ServerReady(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Ready if the service's health says so."""
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
        return await infer(await meant(self._models, request.model_name, request.model_version), request, call.facts)
