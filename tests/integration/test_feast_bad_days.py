"""Feast when it is well, when its online store is down, and before its project is there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import FeastProject, OneProcess, make_project, valkey_command
from tests.support.feast_requests import PRESENT, asked, pushed, told, user_view
from tests.support.processes import accepts, free_port, running
from tests.support.refusals import refused


class TestBadDays:
    async def test_a_feature_store_that_is_well_passes_its_probe(self, feast_backend: FeastBackend, views: FeatureViews) -> None:
        """With views to try the online store with, and without."""
        await feast_backend.probe()
        await views.register(user_view())
        await feast_backend.probe()

    async def test_an_online_store_that_is_down_is_told_at_once(self, feast_project: FeastProject, tmp_path: Path) -> None:
        """And it is used again once it is back, without anything being opened anew."""
        port = free_port()
        down = make_project("down", tmp_path, port)
        down.write_history("users.parquet", event_timestamp=["2024-01-01"], user_id=["u"], total=[1], average=[1.5])
        backend = FeastBackend(settings=FeastSettings(config_path=down.config_path))
        await backend.open()
        views, online = FeatureViews(backend=backend, locks=OneProcess()), OnlineFeatures(backend=backend)
        name = (await views.register(user_view())).name
        row = {"user_id": "a", "total": 9, "average": None}
        begun = time.monotonic()
        for call in (backend.probe(), online.get(asked(["a"], [name])), views.push(pushed(name, row))):
            with refused("BACKEND_UNAVAILABLE"):
                await call
        assert time.monotonic() - begun < 5.0
        with running(valkey_command(port, tmp_path), log=tmp_path / "valkey.log", ready=lambda: accepts(port)):
            await views.push(pushed(name, row))
            assert told(await online.get(asked(["a"], [f"{name}:total"]))) == [[(9.0, PRESENT)]]
            await backend.probe()
        await backend.close()

    async def test_a_project_that_appears_later_is_found(self, tmp_path: Path, valkey_port: int) -> None:
        """The server need not be started again for it."""
        backend = FeastBackend(settings=FeastSettings(config_path=tmp_path / "feature_store.yaml"))
        await backend.open()
        with refused("BACKEND_UNAVAILABLE"):
            await backend.probe()
        make_project("late", tmp_path, valkey_port)
        await backend.probe()
        await backend.close()

    async def test_the_loop_goes_on_while_feast_loads(self, feast_project: FeastProject) -> None:
        """A short deadline of the first caller does not end the loading for the others."""
        backend = FeastBackend(settings=FeastSettings(config_path=feast_project.config_path))
        with pytest.raises((PlatformError, TimeoutError)):
            await asyncio.wait_for(backend.probe(), 0.001)
        await backend.probe()
        await backend.close()
