"""Which deployment answers, whatever happens while the store is read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from ml_platform.v1 import predictions_pb2
from ml_platform.v1.deployments_pb2 import SERVING_RUNTIME_BENTOML as BENTOML
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving import engine
from ml_platform_server.serving.engine import PredictionEngine
from ml_platform_server.serving.routing import loader, router
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime
from ml_platform_server.serving.runtimes.onnx.runtime import OnnxRuntime
from ml_platform_server.settings import BentomlSettings, ServingSettings
from ml_platform_server.store.sessions import finished
from ml_platform_server.store.tables import DeploymentRow
from tests.support.serving import (
    ONNX,
    PRODUCTION,
    FakeDeployments,
    FakeFeatures,
    FakeRegistry,
    column,
    save_onnx,
    struct,
    sum_graph,
)


class SlowDeployments(FakeDeployments):
    """Answers with what it has read when it is let go on. Like a driver, it does not end a statement that has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = {"active": asyncio.Event(), "all_active": asyncio.Event(), "generation": asyncio.Event()}
        self.waiting = dict.fromkeys(self.go_on, 0)
        for event in self.go_on.values():
            event.set()

    async def active(self, model_name: str, environment: str) -> DeploymentRow | None:
        found = await super().active(model_name, environment)
        await self._let_go("active")
        return found

    async def all_active(self) -> Sequence[DeploymentRow]:
        found = await super().all_active()
        await self._let_go("all_active")
        return found

    async def generation(self) -> int:
        found = await super().generation()
        await self._let_go("generation")
        return found

    async def _let_go(self, what: str) -> None:
        self.waiting[what] += 1
        await finished(_ended(self.go_on[what]))
        self.waiting[what] -= 1


async def _ended(event: asyncio.Event) -> None:
    await event.wait()


class House:
    """An engine that looks at the deployments when it is told to, two versions, and a third that was converted."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry()
        self.deployments = SlowDeployments()
        for version in (1, 2):
            files = save_onnx(folder / str(version), sum_graph(1, scale=version))
            self.registry.add("m", version, [column("a")], files)
        self.graph = save_onnx(folder / "graph", sum_graph(1))
        self.registry.add("converted", 1, [column("a")], flavors=("sklearn", "python_function"))
        self.registry.convert("converted", 1, "models:/m-1", self.graph)
        self.bentoml = BentomlBackend(settings=BentomlSettings(url="http://127.0.0.1:9", timeout=1))
        self.engine = PredictionEngine(
            settings=ServingSettings(refresh_interval=3600, model_cache=folder / "cache"),
            deployments=self.deployments,
            registry=self.registry,
            features=FakeFeatures(),
            bentoml=self.bentoml,
        )

    async def ask(self) -> float:
        """What the model says to 1: the number of the version that answers."""
        request = predictions_pb2.PredictRequest(model_name="m", environment=PRODUCTION, inputs=struct({"a": 1.0}))
        return predictions_pb2.PredictResponse.FromString(await self.engine.predict_encoded(request, {})).prediction.number_value


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made = House(tmp_path)
    async with made.engine:
        await made.engine.refresh()
        yield made
        for event in made.deployments.go_on.values():
            event.set()
    await made.bentoml.close()


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110  # what is waited for has no event
            await asyncio.sleep(0.005)


async def test_a_slow_first_call_does_not_put_an_older_deployment_back(house: House) -> None:
    """It had read the older one before the newer was activated and noticed."""
    house.deployments.activate("m", 1)
    house.deployments.go_on["active"].clear()
    first = asyncio.create_task(house.ask())
    await _until(lambda: house.deployments.waiting["active"] == 1)
    newer = house.deployments.activate("m", 2)
    await house.engine.refresh()
    house.deployments.go_on["active"].set()
    await first
    served = house.engine._router.ready("m", PRODUCTION)
    assert served is not None
    assert (served.deployment_id, await house.ask()) == (newer, 2.0)


async def test_a_slow_look_does_not_put_an_older_deployment_back(house: House) -> None:
    """It had read the older one before the newer was activated and found by a first call."""
    house.deployments.activate("m", 1)
    house.deployments.go_on["all_active"].clear()
    look = asyncio.create_task(house.engine.refresh())
    await _until(lambda: house.deployments.waiting["all_active"] == 1)
    house.deployments.activate("m", 2)
    assert await house.ask() == 2.0
    house.deployments.go_on["all_active"].set()
    await look
    assert await house.ask() == 2.0


def held_back(house: House, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Hold the loading of models back until the event is set."""
    download, loading = house.registry.download, asyncio.Event()

    async def slowly(*args: object) -> Path:
        await loading.wait()
        return await download(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(house.registry, "download", slowly)
    return loading


async def test_following_waits_until_the_version_is_served(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is told that a deployment is active is answered by its version, though it loads slowly."""
    house.deployments.activate("m", 1)
    assert await house.ask() == 1.0
    loading = held_back(house, monkeypatch)
    newer = house.deployments.activate("m", 2)
    following = asyncio.create_task(house.engine.follow([newer]))
    assert not (await asyncio.wait([following], timeout=0.05))[0]
    assert await house.ask() == 1.0
    loading.set()
    await following
    assert await house.ask() == 2.0


async def test_following_ends_though_the_version_does_not_load(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, and the loading goes on."""
    house.deployments.activate("m", 1)
    assert await house.ask() == 1.0
    loading = held_back(house, monkeypatch)
    monkeypatch.setattr(engine, "FOLLOW_SECONDS", 0.05)
    newer = house.deployments.activate("m", 2)
    await house.engine.follow([newer])
    assert await house.ask() == 1.0
    loading.set()
    await _until(lambda: house.engine.runtime_in_use(newer) is not None)


async def test_a_store_that_hangs_ends_with_the_deadline_of_the_caller(house: House) -> None:
    """Though the statement itself cannot be cancelled."""
    house.deployments.go_on["active"].clear()
    set_deadline(time.monotonic() + 0.1)
    with pytest.raises(PlatformError) as caught:
        async with asyncio.timeout(30):
            await house.ask()
    assert caught.value.reason_name == "DEADLINE_EXCEEDED"


async def test_a_store_that_hangs_ends_without_a_deadline_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a limit for callers who gave none."""
    monkeypatch.setattr(router, "LOAD_SECONDS", 0.1)
    house.deployments.go_on["active"].clear()
    with pytest.raises(PlatformError) as caught:
        async with asyncio.timeout(30):
            await house.ask()
    assert caught.value.reason_name == "DEADLINE_EXCEEDED"


async def test_a_caller_with_patience_waits_for_a_model_that_loads_slowly(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for callers without a deadline is not theirs."""
    monkeypatch.setattr(router, "LOAD_SECONDS", 0.01)
    monkeypatch.setattr(loader, "LOAD_SECONDS", 0.01)
    house.deployments.activate("m", 1)
    download = house.registry.download

    async def slowly(*args: object) -> Path:
        await asyncio.sleep(0.1)
        return await download(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(house.registry, "download", slowly)
    set_deadline(time.monotonic() + 60)
    assert await house.ask() == 1.0


async def test_a_look_that_hangs_does_not_end_the_following(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next look finds what is deployed."""
    monkeypatch.setattr(router, "POLL_TIMEOUT", 0.05)
    settings = ServingSettings(refresh_interval=0.01, model_cache=house.graph.parent / "cache")
    house.deployments.go_on["generation"].clear()
    async with PredictionEngine(
        settings=settings, deployments=house.deployments, registry=house.registry, features=FakeFeatures(), bentoml=house.bentoml
    ) as engine:
        house.deployments.activate("m", 1)
        await _until(lambda: house.deployments.waiting["generation"] >= 2)
        house.deployments.go_on["generation"].set()
        await _until(lambda: engine._router.ready("m", PRODUCTION) is not None)


@pytest.mark.parametrize("fault", ["the store", "the disk", "a damaged file"])
async def test_a_graph_is_used_again_after_a_passing_fault(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    """BentoML stands in meanwhile; no new deployment is needed."""
    monkeypatch.setattr(loader, "GRAPH_RETRY_SECONDS", 0.01)
    good = (house.graph / "model.onnx").read_bytes()
    match fault:
        case "the store":
            house.registry.graphs.clear()
        case "the disk":
            (tmp_path / "cache").rmdir() if (tmp_path / "cache").exists() else None
            (tmp_path / "cache").write_text("a file where the folder should be")
        case _:
            (house.graph / "model.onnx").write_bytes(good[: len(good) // 2])
    house.deployments.activate("converted", 1)
    await house.engine.refresh()
    served = await house.engine.served("converted", PRODUCTION)
    assert isinstance(served.model.runtime, BentomlRuntime)
    await house.engine.refresh()
    served = await house.engine.served("converted", PRODUCTION)
    assert isinstance(served.model.runtime, BentomlRuntime)
    assert house.engine.runtime_in_use(served.deployment_id) == BENTOML

    match fault:
        case "the store":
            house.registry.convert("converted", 1, "models:/m-1", house.graph)
        case "the disk":
            (tmp_path / "cache").unlink()
        case _:
            (house.graph / "model.onnx").write_bytes(good)
    async with asyncio.timeout(30):
        while not isinstance((await house.engine.served("converted", PRODUCTION)).model.runtime, OnnxRuntime):
            await house.engine.refresh()
            await asyncio.sleep(0.01)
    assert (await house.engine.served("converted", PRODUCTION)).deployment_id == served.deployment_id
    assert house.engine.runtime_in_use(served.deployment_id) == ONNX
    assert house.engine.runtime_in_use("another") is None
