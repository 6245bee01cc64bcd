"""Feature views, through the door to a real Feast project."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast import misses
from ml_platform_server.backends.feast.client import MISS_INTERVAL, FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import FeastSettings
from ml_platform_server.store.idempotency import IdempotencyStore
from ml_platform_server.store.locks import Locks
from tests.support.feast_project import FeastProject, OneProcess
from tests.support.feast_requests import user_view
from tests.support.frame import opened_database
from tests.support.refusals import refused


class TestRegistering:
    async def test_a_registered_view_is_told_as_it_was_defined(self, views: FeatureViews, feast_project: FeastProject) -> None:
        """With its features in their order, its defaults filled in, and a path that means the same to everybody."""
        asked_for = user_view(entities=[{"name": "user", "join_key": "user_id"}])
        made = await views.register(asked_for)
        expected = pb.FeatureView()
        expected.CopyFrom(asked_for)
        expected.entities[0].value_type = pb.VALUE_TYPE_STRING
        expected.source.path = str(feast_project.folder / "users.parquet")
        expected.create_time.CopyFrom(made.create_time)
        expected.update_time.CopyFrom(made.update_time)
        assert made == expected
        assert await views.get(asked_for.name) == made
        assert abs(made.create_time.ToDatetime(UTC) - datetime.now(UTC)).total_seconds() < 60

    async def test_the_same_definition_again_changes_nothing(self, views: FeatureViews) -> None:
        """However its features are ordered; not even its times change."""
        view = user_view()
        made = await views.register(view)
        view.features.reverse()
        assert await views.register(view) == made

    async def test_two_at_once_make_one(self, views: FeatureViews) -> None:
        """Both are told of the same view."""
        view = user_view()
        first, second = await asyncio.gather(views.register(view), views.register(view))
        assert first == second

    async def test_of_two_definitions_at_once_in_two_processes_one_is_refused(
        self, feast_project: FeastProject, tmp_path: Path
    ) -> None:
        """Each process has a connection of its own to Feast and to the platform's store. The first definition stays."""
        async with AsyncExitStack() as stack:
            processes = []
            for _ in range(2):
                backend = FeastBackend(settings=FeastSettings(config_path=feast_project.config_path, registry_ttl=1000))
                await backend.open()
                stack.push_async_callback(backend.close)
                database = await stack.enter_async_context(opened_database(tmp_path))
                processes.append(FeatureViews(backend=backend, locks=Locks(calls=IdempotencyStore(database=database))))
            await asyncio.gather(*(process.list() for process in processes))  # Feast is loaded, so that they meet.
            for _ in range(10):
                name = user_view().name
                outcomes = await asyncio.gather(
                    *(process.register(user_view(name=name, description=f"{at}")) for at, process in enumerate(processes)),
                    return_exceptions=True,
                )
                [error] = [outcome for outcome in outcomes if isinstance(outcome, PlatformError)]
                [made] = [outcome for outcome in outcomes if isinstance(outcome, pb.FeatureView)]
                assert error.reason_name == "FEATURE_VIEW_EXISTS"
                assert await processes[0].get(name) == made

    async def test_a_caller_that_leaves_does_not_free_the_way_for_another(self, feast_backend: FeastBackend) -> None:
        """The change goes on in its thread, so it keeps its lock until it is done."""
        held = asyncio.Event()

        class Noticing(OneProcess):
            @asynccontextmanager
            async def hold(self, name: str) -> AsyncIterator[None]:
                async with super().hold(name):
                    held.set()
                    yield

        locks = Noticing()
        views, view = FeatureViews(backend=feast_backend, locks=locks), user_view()
        await views.list()
        leaving = asyncio.create_task(views.register(view))
        await held.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        async with locks.hold("Feast registry"):
            await feast_backend.refresh()
            assert view.name in {one.name for one in (await views.list(1000))[0]}

    @pytest.mark.parametrize(
        "change",
        [
            {"description": "other"},
            {"ttl": "1s"},
            {"features": [{"name": "total", "value_type": "VALUE_TYPE_DOUBLE"}]},
            {"tags": {}},
        ],
    )
    async def test_another_definition_under_a_taken_name_is_refused(self, views: FeatureViews, change: dict[str, object]) -> None:
        """Whatever it is that differs, and the first one stays."""
        made = await views.register(user_view())
        with refused("FEATURE_VIEW_EXISTS"):
            await views.register(user_view(name=made.name, **change))
        assert await views.get(made.name) == made

    async def test_names_that_differ_in_case_only_are_the_same(self, views: FeatureViews) -> None:
        """Feast cannot keep them apart."""
        made = await views.register(user_view())
        with refused("FEATURE_VIEW_EXISTS"):
            await views.register(user_view(name=made.name.upper()))

    @pytest.mark.parametrize(
        "entity",
        [
            {"name": "user", "join_key": "user_number"},
            {"name": "user", "join_key": "user_id", "value_type": "VALUE_TYPE_INT64"},
        ],
    )
    async def test_an_entity_keeps_its_key(self, views: FeatureViews, entity: dict[str, object]) -> None:
        """Neither another column nor another type is taken for the same entity."""
        await views.register(user_view())
        with refused("ENTITY_EXISTS"):
            await views.register(user_view(entities=[entity]))

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"source": {"path": "nowhere.parquet", "timestamp_field": "event_timestamp"}}, "source.path"),
            ({"source": {"path": "feature_store.yaml", "timestamp_field": "event_timestamp"}}, "source.path"),
            ({"source": {"path": "users.parquet", "timestamp_field": "when"}}, "source.path"),
            ({"features": [{"name": "ghost", "value_type": "VALUE_TYPE_INT64"}]}, "source.path"),
            ({"features": [{"name": "total", "value_type": "VALUE_TYPE_STRING"}]}, "features[0].value_type"),
            ({"features": [{"name": "total", "value_type": "VALUE_TYPE_INT64"}] * 2}, "features"),
            ({"features": [{"name": "user_id", "value_type": "VALUE_TYPE_STRING"}]}, "features"),
            ({"features": [{"name": "event_timestamp", "value_type": "VALUE_TYPE_TIMESTAMP"}]}, "features"),
            ({"ttl": "-1s"}, "ttl"),
            ({"entities": [{"name": "a", "join_key": "user_id"}, {"name": "b", "join_key": "user_id"}]}, "entities"),
            ({"entities": [{"name": "c", "join_key": "user_id", "value_type": "VALUE_TYPE_DOUBLE"}]}, "entities"),
        ],
    )
    async def test_what_would_fail_later_is_refused_now(self, views: FeatureViews, change: dict[str, object], field: str) -> None:
        """The error names the field, and nothing is registered."""
        view = user_view(**change)
        with refused("INVALID_FIELDS") as error:
            await views.register(view)
        assert [violation.field for violation in error.value.violations] == [f"feature_view.{field}"]
        with refused("FEATURE_VIEW_NOT_FOUND"):
            await views.get(view.name)

    async def test_a_source_elsewhere_is_left_to_the_pipelines(self, feast_project: FeastProject) -> None:
        """What this machine cannot see it does not judge; the source lies in a place that was opened, and may lie in no other."""
        settings = FeastSettings(config_path=feast_project.config_path, registry_ttl=1000, source_roots=("s3://bucket",))
        backend = FeastBackend(settings=settings)
        await backend.open()
        views = FeatureViews(backend=backend, locks=OneProcess())
        source = {"path": "s3://bucket/users.parquet", "timestamp_field": "event_timestamp"}
        assert (await views.register(user_view(source=source))).source.path == "s3://bucket/users.parquet"
        with refused("FEATURE_SOURCE_REFUSED"):
            await views.register(user_view())
        await backend.close()

    @pytest.mark.parametrize(
        "path", ["/etc/shadow", "/no/such", "/", "file:///etc/shadow", "../../../etc/passwd", "http://127.0.0.1:9/x.parquet"]
    )
    async def test_a_source_in_no_open_place_is_refused(self, views: FeatureViews, path: str) -> None:
        """Without a setting the project's own folder is the only one; nothing says what there is elsewhere."""
        with refused("FEATURE_SOURCE_REFUSED") as error:
            await views.register(user_view(source={"path": path, "timestamp_field": "event_timestamp"}))
        assert path not in error.value.message
        assert [violation.field for violation in error.value.violations] == ["feature_view.source.path"]

    @pytest.mark.parametrize("name", ["x" * 300, "pipe"])
    async def test_what_is_no_file_at_all_is_refused_at_once(
        self, views: FeatureViews, feast_project: FeastProject, name: str
    ) -> None:
        """A name that no file can have, and a pipe, which would be waited for."""
        pipe = feast_project.folder / "pipe"
        if not pipe.exists():
            os.mkfifo(pipe)
        with refused("INVALID_FIELDS"):
            await views.register(user_view(source={"path": name, "timestamp_field": "event_timestamp"}))

    async def test_a_file_with_rows_without_a_key_or_a_time_is_refused(
        self, views: FeatureViews, feast_project: FeastProject
    ) -> None:
        """Its statistics count them."""
        columns: dict[str, list[object]] = {"event_timestamp": ["2024-01-01", None, None], "user_id": ["a", None, "b"]}
        feast_project.write_history("gaps.parquet", **columns, total=[1, 2, 3], average=[1.5, 0.5, 0.5])
        with refused("INVALID_FIELDS") as error:
            await views.register(user_view(source={"path": "gaps.parquet", "timestamp_field": "event_timestamp"}))
        assert [(violation.field, violation.description) for violation in error.value.violations] == [
            ("feature_view.entities[0].join_key", "1 rows of the file have no value of user_id"),
            ("feature_view.source.timestamp_field", "2 rows of the file have no value of event_timestamp"),
        ]


class TestListing:
    async def test_views_are_listed_by_name_and_page_without_gaps(self, views: FeatureViews) -> None:
        """Pages of one hold what one page holds."""
        for _ in range(2):
            await views.register(user_view())
        everything, end = await views.list(1000)
        assert ([view.name for view in everything], end) == (sorted(view.name for view in everything), "")
        first, token = await views.list(1)
        second, _ = await views.list(1, token)
        assert [*first, *second] == everything[:2]
        with refused("PAGE_TOKEN_INVALID"):
            await views.list(1, "$$")

    async def test_views_that_feast_applied_are_told_as_far_as_the_contract_goes(
        self, views: FeatureViews, feast_project: FeastProject
    ) -> None:
        """A type that the contract does not know is unspecified, a source that is no file is absent, a stream's file is told."""
        feast_project.apply(
            """
            shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
            file = FileSource(name="shops", path="users.parquet", timestamp_field="event_timestamp")
            store.apply([
                shop,
                FeatureView(name="shop_view", entities=[shop], source=PushSource(name="shop_push", batch_source=file),
                            schema=[Field(name="shop_id", dtype=Int64), Field(name="flags", dtype=Array(Bool))]),
                FeatureView(name="sourceless_view", entities=[shop],
                            schema=[Field(name="shop_id", dtype=Int64), Field(name="size", dtype=Float32)]),
            ])
            """
        )
        view = await views.get("shop_view")
        assert [(entity.name, entity.join_key, entity.value_type) for entity in view.entities] == [
            ("shop", "shop_id", pb.VALUE_TYPE_INT64)
        ]
        assert [(feature.name, feature.value_type) for feature in view.features] == [("flags", pb.VALUE_TYPE_UNSPECIFIED)]
        assert view.source.path == "users.parquet"
        assert not (await views.get("sourceless_view")).HasField("source")
        assert {"shop_view", "sourceless_view"} <= {one.name for one in (await views.list())[0]}

    async def test_what_another_process_registers_is_found_at_once(
        self, views: FeatureViews, feast_project: FeastProject
    ) -> None:
        """A view that is not known is looked for in a fresh registry before it counts as missing."""
        with refused("FEATURE_VIEW_NOT_FOUND"):
            await views.get("late_view")
        feast_project.apply("store.apply([FeatureView(name='late_view', schema=[Field(name='x', dtype=Int64)])])")
        assert (await views.get("late_view")).name == "late_view"

    @pytest.mark.parametrize("names", [["nobody_s"] * 20, [f"nobody_s_{at}" for at in range(20)]], ids=["one", "many"])
    @pytest.mark.parametrize("together", [True, False])
    async def test_names_that_are_missing_seldom_cost_a_refresh(
        self, views: FeatureViews, online: OnlineFeatures, feast_backend: FeastBackend, names: list[str], together: bool
    ) -> None:
        """However often they are asked for, and by how many at once; what is registered then is found at once."""
        await views.list()
        refreshes = []

        async def refreshed() -> None:
            refreshes.append(time.monotonic())

        async def get(name: str) -> None:
            with refused("FEATURE_VIEW_NOT_FOUND"):
                await views.get(name)
            with refused("FEATURE_VIEW_NOT_FOUND"):
                await online.plan(features=[f"{name}:x"])

        feast_backend.follow(refreshed)
        begun = time.monotonic()
        if together:
            await asyncio.gather(*map(get, names))
        else:
            for name in names[:4] if len(set(names)) > 1 else names:
                await get(name)
        assert len(refreshes) <= 2 + (time.monotonic() - begun) / MISS_INTERVAL
        if len(set(names)) == 1:
            assert len(refreshes) <= 2 + (time.monotonic() - begun) / misses.SECONDS
        view = user_view()
        with refused("FEATURE_VIEW_NOT_FOUND"):
            await views.get(view.name)
        await views.register(view)
        assert (await views.get(view.name)).name == view.name

    async def test_what_another_process_registers_is_listed_within_the_ttl(self, feast_project: FeastProject) -> None:
        """Nobody has to ask for it by name."""
        backend = FeastBackend(settings=FeastSettings(config_path=feast_project.config_path, registry_ttl=0.2))
        await backend.open()
        views = FeatureViews(backend=backend, locks=OneProcess())
        await views.list()
        feast_project.apply("store.apply([FeatureView(name='later_view', schema=[Field(name='x', dtype=Int64)])])")
        end = time.monotonic() + 30
        while "later_view" not in {view.name for view in (await views.list())[0]}:
            assert time.monotonic() < end, "the registry was not refreshed"
            await asyncio.sleep(0.05)
        await backend.close()
