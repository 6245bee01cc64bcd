"""DeploymentService: versions into environments, and the history of it."""

from __future__ import annotations

from ml_platform.v1.deployments_pb2 import (
    DeployModelRequest,
    DeployModelResponse,
    GetDeploymentRequest,
    GetDeploymentResponse,
    ListDeploymentsRequest,
    ListDeploymentsResponse,
)
from ml_platform_server.call import Call
from ml_platform_server.jobs.deployments import Deployments
from ml_platform_server.store.paging import Page


class DeploymentService:
    """Moves model versions into environments and remembers every move."""

    def __init__(self, *, deployments: Deployments) -> None:
        self._deployments = deployments

    async def DeployModel(self, request: DeployModelRequest, call: Call) -> DeployModelResponse:
        """Start a deployment."""
        return DeployModelResponse(deployment=await self._deployments.deploy(request, call))

    async def GetDeployment(self, request: GetDeploymentRequest, call: Call) -> GetDeploymentResponse:  # noqa: ARG002
        """Tell one deployment."""
        return GetDeploymentResponse(deployment=await self._deployments.get(request.deployment_id))

    async def ListDeployments(self, request: ListDeploymentsRequest, call: Call) -> ListDeploymentsResponse:  # noqa: ARG002
        """Tell a page of the history."""
        deployments, token = await self._deployments.list(
            Page.of(request),
            model_name=request.model_name,
            environment=request.environment,
            state=request.state,
        )
        return ListDeploymentsResponse(deployments=deployments, next_page_token=token)
