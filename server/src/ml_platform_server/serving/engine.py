"""The prediction path: route to a version, decode the inputs, add features, run the model, encode the response."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, MutableMapping
from typing import Self

from ml_platform.v1 import deployments_pb2, predictions_pb2
from ml_platform.v1.deployments_pb2 import ServingRuntime
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.call import current_deadline, remaining
from ml_platform_server.environments import DEFAULT, Environments
from ml_platform_server.errors import PlatformError
from ml_platform_server.observability.recorders import PredictionMetrics
from ml_platform_server.serving.features.binding import FeatureReader
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.routing.loader import ModelLoader
from ml_platform_server.serving.routing.model_cache import ModelCache, Registry
from ml_platform_server.serving.routing.router import ActiveDeployments, Router, ServedVersion
from ml_platform_server.serving.rpc.replies import encoded, new_prediction_id
from ml_platform_server.serving.runtimes.bentoml import BentomlFactory
from ml_platform_server.serving.runtimes.onnx.factory import OnnxFactory
from ml_platform_server.settings import ServingSettings
from ml_platform_server.struct_values import plain_fields

# How long a caller waits for an activated deployment to be loaded in this process before it gets its response anyway.
FOLLOW_SECONDS = 5.0

RUNTIMES = {"onnx": deployments_pb2.SERVING_RUNTIME_ONNX, "bentoml": deployments_pb2.SERVING_RUNTIME_BENTOML}


class PredictionEngine:
    """The prediction path of one process.

    Args:
        settings: the section `serving`.
        deployments: the active deployments.
        registry: the model registry.
        features: the feature store.
        bentoml: runs the versions that have no ONNX graph.
        metrics: counters and histograms of predictions.
        environments: those that versions can be deployed to.
    """

    def __init__(
        self,
        *,
        settings: ServingSettings,
        deployments: ActiveDeployments,
        registry: Registry,
        features: FeatureReader,
        bentoml: BentomlBackend,
        metrics: PredictionMetrics | None = None,
        environments: Environments = DEFAULT,
    ) -> None:
        self.environments = environments
        self._metrics = metrics or PredictionMetrics()
        self._pool = BlockingPool("ONNX Runtime", threads=settings.threads)
        self._cache = ModelCache(
            folder=settings.model_cache,
            registry=registry,
            most_bytes=settings.model_cache_bytes,
            most_seconds=settings.model_cache_age,
        )
        self._loader = ModelLoader(
            cache=self._cache,
            reader=features,
            factories=(OnnxFactory(pool=self._pool, settings=settings), BentomlFactory(backend=bentoml, settings=settings)),
            settings=settings,
            metrics=self._metrics,
        )
        self._router = Router(
            deployments=deployments,
            registry=registry,
            loader=self._loader,
            refresh_interval=settings.refresh_interval,
            environments=environments,
        )

    async def open(self) -> None:
        """Start loading the deployed versions in the background."""
        await self._cache.open()
        await self._router.open()

    async def close(self) -> None:
        """Stop loading. Models in memory go with the engine."""
        await self._router.close()
        await self._loader.close()
        await self._cache.close()
        self._pool.close()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def refresh(self) -> None:
        """Reload the deployments now instead of at the next interval, and wait until changed versions are loaded."""
        await self._router.refresh()

    async def follow(self, deployment_ids: Collection[str]) -> None:
        """Wait for at most FOLLOW_SECONDS until these deployments serve in this process.

        A caller that learns that a deployment is active predicts next, and should get predictions of its version.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(remaining(FOLLOW_SECONDS)):
                await self._router.follow(deployment_ids)

    def runtime_in_use(self, deployment_id: str) -> ServingRuntime.ValueType | None:
        """The runtime that runs a deployment's version in this process; None if it does not serve here."""
        served = self._router.serving(deployment_id)
        return RUNTIMES[served.model.runtime.platform] if served is not None else None

    async def served(self, model_name: str, environment: str) -> ServedVersion:
        """The version that serves a model in an environment.

        Raises:
            PlatformError: as Router.find.
        """
        served = self._router.ready(model_name, environment)
        if served is not None:
            return served
        try:
            return await self._router.find(model_name, environment)
        except PlatformError as error:
            self._metrics.no_version.error(error.reason_name)
            raise

    def loaded(self, model_name: str, version: str) -> ServedVersion | None:
        """The version of this number, if it is loaded and serves in an environment."""
        for environment in self.environments:
            served = self._router.ready(model_name, environment)
            if served is not None and str(served.model.number) == version:
                return served
        return None

    async def predict_encoded(self, request: predictions_pb2.PredictRequest, log_fields: MutableMapping[str, object]) -> bytes:
        """Predict one row; returns an encoded PredictResponse.

        Args:
            request: a valid request.
            log_fields: receives the fields for the access log: prediction_id, model, version, and unused_inputs if there are any.

        Raises:
            PlatformError: as the contract says for PredictionService.Predict.
        """
        served = self._router.ready(request.model_name, request.environment)
        if served is None:
            served = await self.served(request.model_name, request.environment)
        if request.HasField("params"):
            served = served.with_params(plain_fields(request.params))
        model = served.model
        log_fields["model"], log_fields["version"] = model.name, model.number
        row = self._decoded(served, request)
        if row.others and (unused := model.enrichment.unused(row.others)):
            row.unused = log_fields["unused_inputs"] = unused
        # Awaited here, not in a coroutine of the model: each further coroutine between gRPC and the batch costs every call.
        answer = model.unwrap(await model.submit(row, current_deadline()))
        prediction_id = log_fields["prediction_id"] = new_prediction_id()
        return encoded(served, row, answer, prediction_id, include_features=request.include_features)

    @staticmethod
    def _decoded(served: ServedVersion, request: predictions_pb2.PredictRequest) -> Row:
        try:
            return served.decode(request.inputs.fields)
        except PlatformError as error:
            served.model.metrics.error(error.reason_name)
            raise
