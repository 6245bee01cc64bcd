"""The client itself: one object for everything the platform does."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from ml_platform.aio.deployments import AsyncDeployments
from ml_platform.aio.experiments import AsyncExperiments
from ml_platform.aio.features import AsyncFeatures
from ml_platform.aio.invoker import AsyncInvoker
from ml_platform.aio.models import AsyncModels
from ml_platform.aio.platform import AsyncPlatformInfo
from ml_platform.aio.predictions import AsyncPredictions
from ml_platform.aio.training import AsyncTraining
from ml_platform.config import read_config


class AsyncMLPlatform(
    AsyncExperiments, AsyncTraining, AsyncModels, AsyncDeployments, AsyncFeatures, AsyncPredictions, AsyncPlatformInfo
):
    """A client of ML Platform.

    Every call has a deadline, and is tried again when the platform does not answer; a mutating call carries a request id, so that
    a repeat is harmless. What fails raises an `MLPlatformError`.

    Args:
        api_url: the platform's address: "http://host:port" (plaintext), "https://host:port" (TLS), or "host:port", which is
            plaintext for this machine's own addresses and TLS for all others. The port is 50051 if none is given, 443 with https.
            None reads ML_PLATFORM_API_URL.
        api_key: the caller's key. None reads ML_PLATFORM_API_KEY.
        timeout: seconds that one call may take, retries included. Waiting for jobs and watching them have limits of their own.
        retries: how often a call is tried again when the platform does not answer.
        ca_file: a PEM file with the authorities to trust with TLS. None reads ML_PLATFORM_CA_FILE, and trusts the usual ones
            without it.
        cert_file: a PEM file with the client's own certificate, for a platform that asks for one.
        key_file: a PEM file with that certificate's private key.

    Raises:
        ConfigurationError: there is no address, or it makes no sense.

    Example:
        >>> async with AsyncMLPlatform(api_url="http://localhost:50051", api_key="mlp_...") as platform:
        ...     experiment = await platform.create_experiment(name="fraud")
    """

    def __init__(
        self,
        api_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: int = 3,
        ca_file: str | Path | None = None,
        cert_file: str | Path | None = None,
        key_file: str | Path | None = None,
    ) -> None:
        files = {"ca_file": ca_file, "cert_file": cert_file, "key_file": key_file}
        self._invoker = AsyncInvoker(read_config(api_url, api_key, timeout=timeout, retries=retries, **files))

    @property
    def api_url(self) -> str:
        """The address of the platform."""
        return self._invoker.config.endpoint.url

    def with_options(self, *, timeout: float | None = None, retries: int | None = None) -> Self:
        """The same client with another deadline or number of retries. Both share one connection: closing one closes both.

        Example:
            >>> quick = platform.with_options(timeout=0.5, retries=0)
        """
        other = object.__new__(type(self))
        other._invoker = self._invoker.with_options(timeout=timeout, retries=retries)
        return other

    async def close(self) -> None:
        """Cancel what is under way and hang up."""
        await self._invoker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_url={self.api_url!r})"
