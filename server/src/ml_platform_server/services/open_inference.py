"""GRPCInferenceService of the Open Inference Protocol v2."""

from __future__ import annotations

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
from ml_platform_server.serving.inference.models import Find, described, meant


class OpenInferenceService:
    """Predictions for clients of Triton and KServe.

    Args:
        find: gives the version that answers for a model in an environment.
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

    def __init__(self, *, find: Find) -> None:
        self._find = find

    async def ServerLive(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Live, since it answers."""
        return ServerLiveResponse(live=True)

    async def ServerReady(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Ready, since it answers."""
        return ServerReadyResponse(ready=True)

    async def ServerMetadata(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """What this server is."""
        return ServerMetadataResponse(name="ml-platform", version=version("ml-platform-server"))

    async def ModelReady(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """Whether a model answers."""
        try:
            await meant(self._find, request.name, request.version)
        except PlatformError:
            return ModelReadyResponse(ready=False)
        return ModelReadyResponse(ready=True)

    async def ModelMetadata(self, request: Message, call: Call) -> Message:  # noqa: ARG002  # as all methods
        """What a model takes and gives."""
        return described(await meant(self._find, request.name, request.version))

    async def ModelInfer(self, request: Message, call: Call) -> Message:
        """Infer."""
        return await infer(await meant(self._find, request.model_name, request.model_version), request, call.facts)
