"""MLflow when it is well, down or hanging."""

from __future__ import annotations

import socket
import time

from ml_platform_server.backends.mlflow.client import MlflowBackend
from ml_platform_server.backends.mlflow.experiments import Experiments
from ml_platform_server.settings import MlflowSettings
from tests.support.processes import free_port
from tests.support.refusals import refused


class TestBadDays:
    async def test_a_server_that_is_well_passes_its_probe(self, mlflow_backend: MlflowBackend) -> None:
        """The probe raises nothing."""
        await mlflow_backend.probe()

    async def test_a_server_that_is_down_is_told_at_once(self) -> None:
        """A refused connection is no reason to wait."""
        backend = MlflowBackend(settings=MlflowSettings(tracking_uri=f"http://127.0.0.1:{free_port()}"))
        with refused("BACKEND_UNAVAILABLE"):  # The first call also loads the client.
            await backend.probe()
        begun = time.monotonic()
        with refused("BACKEND_UNAVAILABLE") as error:
            await Experiments(backend=backend).get(name="x")
        assert time.monotonic() - begun < 2.0
        assert error.value.retry_after
        await backend.close()

    async def test_a_server_that_hangs_is_given_up(self) -> None:
        """After the configured time for one request, once."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
            backend = MlflowBackend(settings=MlflowSettings(tracking_uri=uri, timeout=1.0))
            begun = time.monotonic()
            with refused("BACKEND_UNAVAILABLE"):
                await backend.probe()
            assert time.monotonic() - begun < 20.0
            await backend.close()
