"""The connection to MLflow: the client, the threads its blocking calls run in, and the translation of its failures."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, TypeVar

from ml_platform_server.backends.blocking import BlockingPool, longest_run
from ml_platform_server.backends.mlflow import errors
from ml_platform_server.backends.mlflow.links import Links
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import MlflowSettings

if TYPE_CHECKING:
    from mlflow import MlflowClient

R = TypeVar("R")

DOWNLOAD_THREADS = 2
DOWNLOAD_TIMEOUT = 600.0


class MlflowBackend:
    """MLflow, as the rest of the house reaches it.

    Args:
        settings: where MLflow is, how long one of its requests may take, and how many run at once.

    Attributes:
        links: where its web interface shows what it keeps.
    """

    def __init__(self, *, settings: MlflowSettings) -> None:
        self._settings = settings
        self.links = Links(settings)
        self._pool = BlockingPool("MLflow", threads=settings.threads, timeout=longest_run(settings.timeout))
        # Model files may take minutes; they must not take the threads of the quick requests.
        self._downloads = BlockingPool("MLflow artifacts", threads=DOWNLOAD_THREADS, timeout=DOWNLOAD_TIMEOUT)
        self._client: MlflowClient | None = None
        self._loading = threading.Lock()
        self._warming: asyncio.Task[MlflowClient] | None = None

    @property
    def uri(self) -> str:
        """Where MLflow's tracking server is."""
        return self._settings.tracking_uri

    async def open(self) -> None:
        """Begin to load the client library, without waiting for it: that takes seconds."""
        self._warming = asyncio.create_task(self._pool.run(self._loaded))

    async def close(self) -> None:
        """Let the threads end."""
        if self._warming is not None:
            self._warming.cancel()
        self._pool.close()
        self._downloads.close()

    async def probe(self) -> None:
        """Ask MLflow something that its server and its database have to answer.

        Raises:
            PlatformError: BACKEND_UNAVAILABLE or BACKEND_FAILED if it is not well.
        """
        await self.call(lambda client: client.search_experiments(max_results=1))

    async def call(
        self,
        function: Callable[[MlflowClient], R],
        *,
        missing: PlatformError | None = None,
        exists: PlatformError | None = None,
        invalid: PlatformError | None = None,
        otherwise: PlatformError | None = None,
    ) -> R:
        """Run something with the client in a thread and wait for it until the call's deadline.

        Args:
            function: what to run.
            missing: the error to raise when MLflow says that what is asked for does not exist.
            exists: the error to raise when MLflow says that it exists already.
            invalid: the error to raise when MLflow says that an argument is wrong.
            otherwise: for functions that read files: the error to raise for any failure that is none of these, nor a lost
                connection.

        Raises:
            PlatformError: one of these, or BACKEND_UNAVAILABLE, BACKEND_FAILED, PAGE_TOKEN_INVALID, OVERLOADED,
                DEADLINE_EXCEEDED.
        """
        meanings = errors.ErrorMapping(missing=missing, exists=exists, invalid=invalid, otherwise=otherwise)
        return await self._pool.run(self._translated(function, meanings))

    async def download(self, function: Callable[[MlflowClient], R], *, missing: PlatformError, otherwise: PlatformError) -> R:
        """Run something that moves many files, which may take minutes. As `call`."""
        meanings = errors.ErrorMapping(missing=missing, otherwise=otherwise)
        return await self._downloads.run(self._translated(function, meanings))

    def _translated(self, function: Callable[[MlflowClient], R], meanings: errors.ErrorMapping) -> Callable[[], R]:
        @wraps(function)
        def translated() -> R:
            client = self._loaded()
            try:
                return function(client)
            except PlatformError:
                raise
            except Exception as error:
                raise errors.translate(error, meanings) from error

        return translated

    def _loaded(self) -> MlflowClient:
        with self._loading:
            if self._client is None:
                self._client = self._load()
            return self._client

    def _load(self) -> MlflowClient:
        # MLflow reads these whenever it sends a request. Its own retries would hold a call for minutes, and would repeat what
        # must not happen twice.
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(math.ceil(self._settings.timeout))
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        from mlflow import MlflowClient  # noqa: PLC0415  # takes 4 s to import, so only here, in a thread

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
