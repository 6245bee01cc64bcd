"""Predictions, and the platform itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_platform import rpcs
from ml_platform.aio.caller import AsyncCaller
from ml_platform.resources.deployments import to_environment
from ml_platform.resources.platform import Health, Identity, Metrics, read_health, read_identity, read_metrics
from ml_platform.resources.predictions import Prediction, read_prediction
from ml_platform.v1 import platform_pb2, predictions_pb2
from ml_platform.values import build, to_struct


class AsyncPredictions:
    """The part of the client that asks models."""

    _caller: AsyncCaller

    async def predict(
        self,
        model_name: str,
        inputs: Mapping[str, Any],
        environment: str = "production",
        include_features: bool = False,
    ) -> Prediction:
        """Ask a deployed model for a prediction.

        Args:
            model_name: the registered model's name.
            inputs: what is known, by name: columns of the model, and join keys of the features it uses. What is not given is
                looked up in the online feature store; what is given wins over what is stored.
            environment: "production" or "staging".
            include_features: whether the reply tells every feature that was used.

        Raises:
            InvalidArgument: an input is missing or does not fit, or there is no such environment.
            NotFound: there is no such model.
            FailedPrecondition: the model is not deployed there, or a feature it needs has no value.

        Example:
            >>> reply = await platform.predict("fraud", {"user_id": "user_1", "amount": 950.0}, environment="staging")
            >>> reply.prediction, reply.probability, reply.model_version
            (1, 0.87, 2)
        """
        request = build(
            predictions_pb2.PredictRequest,
            model_name=model_name,
            environment=to_environment(environment),
            inputs=to_struct(inputs, "inputs"),
            include_features=include_features,
        )
        return read_prediction(await self._caller.call(rpcs.PREDICT, request))


class AsyncPlatformInfo:
    """The part of the client that asks the platform about itself."""

    _caller: AsyncCaller

    async def health(self) -> Health:
        """How the platform and each of its backends are. A backend that is down is no error here.

        Example:
            >>> {backend.name: backend.status for backend in (await platform.health()).backends}
            {'mlflow': 'healthy', 'feast': 'healthy', 'airflow': 'healthy', 'bentoml': 'healthy', 'store': 'healthy'}
        """
        return read_health(await self._caller.call(rpcs.GET_HEALTH, platform_pb2.GetHealthRequest()))

    async def metrics(self) -> Metrics:
        """What the platform holds, counted.

        Example:
            >>> (await platform.metrics()).training_jobs_last_24h
            12
        """
        return read_metrics(await self._caller.call(rpcs.GET_METRICS, platform_pb2.GetMetricsRequest()))

    async def whoami(self) -> Identity:
        """Who the platform takes the caller for, and what the key allows.

        Example:
            >>> (await platform.whoami()).principal
            'ada'
        """
        return read_identity(await self._caller.call(rpcs.WHO_AM_I, platform_pb2.WhoAmIRequest()))
