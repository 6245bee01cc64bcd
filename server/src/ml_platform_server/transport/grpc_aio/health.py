"""The standard health service of grpcio, with the method that it lacks."""

from __future__ import annotations

from grpc_health.v1.health import aio as grpc_health
from grpc_health.v1.health_pb2 import HealthCheckResponse, HealthListRequest, HealthListResponse


class HealthServicer(grpc_health.HealthServicer):  # type: ignore[misc]  # the library carries no types
    """See Health."""

    async def List(self, request: HealthListRequest, context: object) -> HealthListResponse:  # noqa: ARG002, N802  # gRPC's signature
        """Return the status of every service."""
        statuses = {service: HealthCheckResponse(status=status) for service, status in self._server_status.items()}
        return HealthListResponse(statuses=statuses)

    async def set_serving(self, service: str, serving: bool) -> None:  # the status is what is set
        """See Health."""
        await self.set(service, HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)
