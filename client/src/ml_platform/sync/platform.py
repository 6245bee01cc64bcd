# Made from ml_platform/aio/platform.py by scripts/sync_api.py. Change that file and run `make generate`.
"""The platform itself."""

from __future__ import annotations

from ml_platform import rpcs
from ml_platform.resources.platform import Health, Identity, Metrics, read_health, read_identity, read_metrics
from ml_platform.sync.invoker import Invoker
from ml_platform.v1 import platform_pb2


class PlatformInfo:
    """The part of the client that asks the platform about itself."""

    _invoker: Invoker

    def health(self) -> Health:
        """How the platform and each of its backends are. A backend that is down is no error here.

        Example:
            >>> {backend.name: backend.status for backend in platform.health().backends}
            {'mlflow': 'healthy', 'feast': 'healthy', 'airflow': 'healthy', 'bentoml': 'healthy', 'store': 'healthy'}
        """
        return read_health(self._invoker.call(rpcs.GET_HEALTH, platform_pb2.GetHealthRequest()))

    def metrics(self) -> Metrics:
        """What the platform holds, counted.

        Example:
            >>> platform.metrics().training_jobs_last_24h
            12
        """
        return read_metrics(self._invoker.call(rpcs.GET_USAGE, platform_pb2.GetUsageRequest()))

    def whoami(self) -> Identity:
        """Who the platform takes the caller for, and what the key allows.

        Example:
            >>> platform.whoami().principal
            'ada'
        """
        return read_identity(self._invoker.call(rpcs.WHO_AM_I, platform_pb2.WhoAmIRequest()))
