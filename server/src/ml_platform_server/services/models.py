"""ModelService: the model registry, with the stages that the deployments give to its versions."""

from __future__ import annotations

from ml_platform.v1.models_pb2 import (
    GetModelRequest,
    GetModelResponse,
    GetModelVersionRequest,
    GetModelVersionResponse,
    ListModelsRequest,
    ListModelsResponse,
    ListModelVersionsRequest,
    ListModelVersionsResponse,
    RegisterModelRequest,
    RegisterModelResponse,
)
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.mlflow.models import Models
from ml_platform_server.call import Call
from ml_platform_server.services.stages import Stages
from ml_platform_server.store.deployments import DeploymentRecords


class ModelService:
    """Keeps registered models and their versions."""

    def __init__(self, *, models: Models, features: OnlineFeatures, deployments: DeploymentRecords) -> None:
        self._models = models
        self._features = features
        self._stages = Stages(deployments=deployments)

    async def RegisterModel(self, request: RegisterModelRequest, call: Call) -> RegisterModelResponse:  # noqa: ARG002
        """Make a new version from a run's model."""
        await self._features.check(features=request.feature_refs, feature_service=request.feature_service)
        version = await self._models.register(request)
        await self._stages.set_versions([version])
        return RegisterModelResponse(model_version=version)

    async def ListModels(self, request: ListModelsRequest, call: Call) -> ListModelsResponse:  # noqa: ARG002
        """Tell a page of the registered models."""
        models, token = await self._models.list(request.page_size, request.page_token)
        await self._stages.set_models(models)
        return ListModelsResponse(models=models, next_page_token=token)

    async def GetModel(self, request: GetModelRequest, call: Call) -> GetModelResponse:  # noqa: ARG002
        """Tell one registered model."""
        model = await self._models.get(request.model_name)
        await self._stages.set_models([model])
        return GetModelResponse(model=model)

    async def ListModelVersions(self, request: ListModelVersionsRequest, call: Call) -> ListModelVersionsResponse:  # noqa: ARG002
        """Tell a page of a model's versions."""
        versions, token = await self._models.list_versions(request.model_name, request.page_size, request.page_token)
        await self._stages.set_versions(versions)
        return ListModelVersionsResponse(model_versions=versions, next_page_token=token)

    async def GetModelVersion(self, request: GetModelVersionRequest, call: Call) -> GetModelVersionResponse:  # noqa: ARG002
        """Tell one version."""
        version = await self._models.get_version(request.model_name, request.version)
        await self._stages.set_versions([version])
        return GetModelVersionResponse(model_version=version)
