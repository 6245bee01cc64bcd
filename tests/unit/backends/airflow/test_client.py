"""The client of Airflow's API, which is loaded when it is needed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from ml_platform_server.backends import blocking
from ml_platform_server.backends.airflow.client import AirflowBackend
from ml_platform_server.backends.airflow.errors import AirflowUnavailableError
from ml_platform_server.settings import AirflowSettings


@pytest.fixture
async def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A backend whose client does not load at the first attempt."""
    attempts: list[int] = []

    def load(self: AirflowBackend) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("too many open files")
        return SimpleNamespace(configuration=SimpleNamespace(access_token=""))

    async def token() -> str:
        return "token"

    monkeypatch.setattr(AirflowBackend, "_load", load)
    backend = AirflowBackend(settings=AirflowSettings())
    monkeypatch.setattr(backend._tokens, "current", token)
    yield backend
    await backend.close()


async def test_a_client_that_did_not_load_is_loaded_again(backend: AirflowBackend) -> None:
    """The call that finds it missing is told that nothing has reached Airflow; the next one loads it."""
    with pytest.raises(AirflowUnavailableError) as caught:
        await backend.call(_token_of)
    assert not caught.value.may_have_arrived
    assert await backend.call(_token_of) == "token"


async def test_a_start_whose_load_failed_is_no_obstacle(backend: AirflowBackend) -> None:
    """Opening begins to load the client; whatever becomes of that, the first call has one."""
    await backend.open()
    assert backend._warming is not None
    with pytest.raises(AirflowUnavailableError):
        await backend._warming
    assert await backend.call(_token_of) == "token"


def _token_of(client: Any, timeout: float) -> str:
    return str(client.configuration.access_token)


async def test_a_function_outside_of_a_call_may_take_as_long_as_its_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long timeout in the settings counts: the pool does not end a function before its request may be answered."""
    monkeypatch.setattr(blocking, "DEFAULT_TIMEOUT", 0.0)
    backend = AirflowBackend(settings=AirflowSettings(timeout=30.0))
    await backend._pool.run(time.sleep, 0.05)
    await backend.close()
