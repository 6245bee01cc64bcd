"""Reads without Feast when the registry changes, when the store is another, and when it dies, hangs and comes back."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import Cell, OnlineFeatures, OnlinePlan
from ml_platform_server.backends.feast.redis.reader import RedisReader
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.call import set_deadline
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import FeastProject, OneProcess, is_direct, make_project, valkey_command
from tests.support.feast_requests import pushed, user_view
from tests.support.processes import accepts, free_port, running
from tests.support.refusals import refused


async def serving(project: FeastProject, **settings: Any) -> tuple[FeastBackend, str]:
    """A door to a project of one view, whose user "a" has the total 3; and the view's name."""
    project.write_history("users.parquet", event_timestamp=["2024-01-01"], user_id=["u"], total=[1], average=[1.5])
    backend = FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=1000, **settings))
    await backend.open()
    views = FeatureViews(backend=backend, locks=OneProcess())
    name = (await views.register(user_view())).name
    await views.push(pushed(name, {"user_id": "a", "total": 3, "average": None}, {"user_id": "b", "total": 4, "average": 1}))
    await backend.refresh()
    return backend, name


def values(rows: list[list[Cell]]) -> list[object]:
    """The only value of each row."""
    return [cell.value for (cell,) in rows]


async def within(seconds: float, reading: Coroutine[Any, Any, list[list[Cell]]]) -> list[list[Cell]]:
    """As in a call with a deadline."""
    set_deadline(time.monotonic() + seconds)
    return await reading


class TestChanges:
    async def test_a_feature_that_vanishes_is_told(self, feast_project: FeastProject) -> None:
        """As Feast's own read tells it, as soon as the registry was refreshed; and what comes back is read again."""
        backend = FeastBackend(settings=FeastSettings(config_path=feast_project.config_path, registry_ttl=1000))
        await backend.open()
        views, online = FeatureViews(backend=backend, locks=OneProcess()), OnlineFeatures(backend=backend)
        view = user_view()
        await views.register(view)
        await views.push(pushed(view.name, {"user_id": "a", "total": 3, "average": 0.5}))
        both, one = await online.plan(features=[view.name]), await online.plan(features=[f"{view.name}:total"])
        store = feast_project.store()
        shorter = store.get_feature_view(view.name)
        shorter.features = [field for field in shorter.features if field.name == "total"]
        shorter.projection.features = list(shorter.features)
        store.registry.apply_feature_view(shorter, store.project)
        await backend.refresh()
        with refused("FEATURE_NOT_FOUND"):
            await online.read(both, [{"user_id": "a"}])
        assert is_direct(one)
        assert [[cell.value for cell in row] for row in await online.read(one, [{"user_id": "a"}])] == [[3]]
        store.delete_feature_view(view.name)
        await backend.refresh()
        with refused("FEATURE_NOT_FOUND"):
            await online.read(one, [{"user_id": "a"}])
        await views.register(view)
        await backend.refresh()
        assert is_direct(both)
        await backend.close()

    @pytest.mark.parametrize(
        "store", ["type: sqlite\n  path: {folder}/online.db", 'type: redis\n  connection_string: "127.0.0.1:{port},protocol=3"']
    )
    async def test_other_stores_are_read_by_feast(self, store: str, tmp_path: Path, valkey_port: int) -> None:
        """And so is Redis with options that this reader does not know."""
        project = make_project("other", tmp_path, valkey_port)
        config = project.config_path.read_text().split("online_store:")[0]
        store = store.format(folder=tmp_path, port=valkey_port)
        project.config_path.write_text(f"{config}online_store:\n  {store}\nentity_key_serialization_version: 3\n")
        backend, name = await serving(project)
        online = OnlineFeatures(backend=backend)
        plan = await online.plan(features=[f"{name}:total"])
        assert not is_direct(plan)
        assert [[cell.value for cell in row] for row in await online.read(plan, [{"user_id": "a"}])] == [[3]]
        await backend.close()


class TestFaults:
    @pytest.fixture
    def port(self) -> int:
        return free_port()

    @pytest.fixture
    def valkey(self, port: int, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """An online store that belongs to one test, and that wants a password."""
        command = [*valkey_command(port, tmp_path), "--requirepass", "sesame"]
        with running(command, log=tmp_path / "valkey.log", ready=lambda: accepts(port)) as process:
            yield process
            process.send_signal(signal.SIGCONT)

    @pytest.fixture
    async def plan(self, valkey: object, port: int, tmp_path: Path) -> AsyncIterator[tuple[OnlineFeatures, OnlinePlan]]:
        project = make_project("faults", tmp_path, port)
        secret = project.config_path.read_text().replace(f"127.0.0.1:{port}", f"127.0.0.1:{port},db=3,password=sesame")
        project.config_path.write_text(secret)
        backend, name = await serving(project, timeout=1.0)
        online = OnlineFeatures(backend=backend)
        plan = await online.plan(features=[f"{name}:total"])
        assert is_direct(plan)
        yield online, plan
        await backend.close()

    async def test_a_store_that_dies_and_comes_back(
        self, plan: tuple[OnlineFeatures, OnlinePlan], valkey: subprocess.Popen[bytes], port: int, tmp_path: Path
    ) -> None:
        """While it is down every read hears of it at once; the first read after its return is answered."""
        online, total = plan
        assert values(await online.read(total, [{"user_id": "a"}])) == [3]
        valkey.kill()
        valkey.wait()
        begun = time.monotonic()
        for _ in range(3):
            with refused("BACKEND_UNAVAILABLE"):
                await online.read(total, [{"user_id": "a"}])
        assert time.monotonic() - begun < 0.5
        again = [*valkey_command(port, tmp_path), "--requirepass", "sesame"]
        with running(again, log=tmp_path / "again.log", ready=lambda: accepts(port)):
            assert values(await online.read(total, [{"user_id": "a"}])) == [None]

    async def test_a_store_that_was_restarted_unnoticed_is_asked_again(
        self, plan: tuple[OnlineFeatures, OnlinePlan], port: int
    ) -> None:
        """A connection that broke between two reads costs neither of them."""
        online, total = plan
        for _ in range(3):
            assert values(await online.read(total, [{"user_id": "a"}])) == [3]
            cut = Redis(port=port, password="sesame").client_kill_filter(_type="normal", skipme=True)
            assert cut >= 1

    async def test_a_store_that_hangs_costs_no_more_than_the_deadline(
        self, plan: tuple[OnlineFeatures, OnlinePlan], valkey: subprocess.Popen[bytes]
    ) -> None:
        """Nobody gets an answer that belongs to somebody who gave up."""
        online, total = plan
        assert values(await online.read(total, [{"user_id": "a"}])) == [3]
        valkey.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        late = [asyncio.create_task(within(0.2, online.read(total, [{"user_id": "a"}]))) for _ in range(5)]
        gone = asyncio.create_task(online.read(total, [{"user_id": "a"}]))
        await asyncio.sleep(0.05)
        gone.cancel()
        for task in late:
            with refused("DEADLINE_EXCEEDED"):
                await task
        assert time.monotonic() - begun < 0.4
        patient = asyncio.create_task(online.read(total, [{"user_id": "b"}, {"user_id": "a"}, {"user_id": "b"}]))
        await asyncio.sleep(0.05)
        valkey.send_signal(signal.SIGCONT)
        assert values(await patient) == [4, 3, 4]
        assert values(await online.read(total, [{"user_id": "a"}])) == [3]

    async def test_a_store_that_hangs_for_long_counts_as_gone(
        self, plan: tuple[OnlineFeatures, OnlinePlan], valkey: subprocess.Popen[bytes]
    ) -> None:
        """Within the timeout, however many ask; and it is used again once it goes on."""
        online, total = plan
        valkey.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        asked = [online.read(total, [{"user_id": "a"}]) for _ in range(20)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, PlatformError)
            assert error.reason_name == "BACKEND_UNAVAILABLE"
        assert time.monotonic() - begun < 1.5
        valkey.send_signal(signal.SIGCONT)
        assert values(await online.read(total, [{"user_id": "b"}])) == [4]

    async def test_many_at_once_each_get_their_own(self, plan: tuple[OnlineFeatures, OnlinePlan]) -> None:
        """Over one connection, some of them giving up on the way."""
        online, total = plan
        names = ["a", "b", "nobody"]
        tasks = [asyncio.create_task(online.read(total, [{"user_id": names[at % 3]}])) for at in range(300)]
        await asyncio.sleep(0)
        for task in tasks[::7]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        kept = [(at, found) for at, found in enumerate(answers) if not isinstance(found, BaseException)]
        assert len(kept) >= 250
        assert all(values(found) == [[3, 4, None][at % 3]] for at, found in kept)

    async def test_a_wrong_password_is_no_store(self, plan: tuple[OnlineFeatures, OnlinePlan], port: int) -> None:
        """It is told like any store that cannot be reached."""
        online, total = plan
        Redis(port=port, password="sesame").config_set("requirepass", "changed")
        Redis(port=port, password="changed").client_kill_filter(_type="normal", skipme=True)
        with refused("BACKEND_UNAVAILABLE"):
            await online.read(total, [{"user_id": "a"}])

    async def test_what_is_no_hash_is_a_failure_of_the_store_s(self, plan: tuple[OnlineFeatures, OnlinePlan], port: int) -> None:
        """Only for those who ask for it."""
        online, total = plan
        assert total.kept is not None
        assert isinstance(total.kept.reader, RedisReader)
        key = total.kept.reader.layout.reads[0].key({"user_id": "odd"})
        Redis(port=port, password="sesame", db=3).set(key, "no hash")
        with refused("BACKEND_FAILED"):
            await online.read(total, [{"user_id": "odd"}])
        assert values(await online.read(total, [{"user_id": "a"}])) == [3]
