"""FeatureService: feature views, their values, and the jobs that load them."""

from __future__ import annotations

from ml_platform.v1.features_pb2 import (
    GetFeatureViewRequest,
    GetFeatureViewResponse,
    GetOnlineFeaturesRequest,
    GetOnlineFeaturesResponse,
    ListFeatureViewsRequest,
    ListFeatureViewsResponse,
    MaterializeFeaturesRequest,
    MaterializeFeaturesResponse,
    PushFeaturesRequest,
    PushFeaturesResponse,
    RegisterFeatureViewRequest,
    RegisterFeatureViewResponse,
)
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.call import Call
from ml_platform_server.jobs.materialization import Materialization


class FeatureService:
    """Defines features, loads them into the online store and reads them from there."""

    def __init__(self, *, views: FeatureViews, online: OnlineFeatures, materialization: Materialization) -> None:
        self._views = views
        self._online = online
        self._materialization = materialization

    async def RegisterFeatureView(self, request: RegisterFeatureViewRequest, call: Call) -> RegisterFeatureViewResponse:  # noqa: ARG002
        """Define a feature view."""
        return RegisterFeatureViewResponse(feature_view=await self._views.register(request.feature_view))

    async def GetFeatureView(self, request: GetFeatureViewRequest, call: Call) -> GetFeatureViewResponse:  # noqa: ARG002
        """Tell one feature view."""
        return GetFeatureViewResponse(feature_view=await self._views.get(request.name))

    async def ListFeatureViews(self, request: ListFeatureViewsRequest, call: Call) -> ListFeatureViewsResponse:  # noqa: ARG002
        """Tell a page of the feature views."""
        views, token = await self._views.list(request.page_size, request.page_token)
        return ListFeatureViewsResponse(feature_views=views, next_page_token=token)

    async def MaterializeFeatures(self, request: MaterializeFeaturesRequest, call: Call) -> MaterializeFeaturesResponse:
        """Start a job that loads features into the online store."""
        return MaterializeFeaturesResponse(job=await self._materialization.submit(request, call))

    async def PushFeatures(self, request: PushFeaturesRequest, call: Call) -> PushFeaturesResponse:  # noqa: ARG002
        """Write values straight into the online store."""
        return await self._views.push(request)

    async def GetOnlineFeatures(self, request: GetOnlineFeaturesRequest, call: Call) -> GetOnlineFeaturesResponse:  # noqa: ARG002
        """Read features from the online store."""
        return await self._online.get(request)
