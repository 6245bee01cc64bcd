"""The door to Feast against a real registry and a real online store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from google.protobuf import json_format

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.views import FeatureViews
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import (
    FeastProject,
    make_project,
    valkey_command,
    valkey_port_fixture,  # noqa: F401  # found by its name
)
from tests.support.processes import accepts, free_port, running
from tests.support.refusals import refused

PRESENT, NULL, UNKNOWN, OLD = (
    pb.FEATURE_STATUS_PRESENT,
    pb.FEATURE_STATUS_NULL_VALUE,
    pb.FEATURE_STATUS_NOT_FOUND,
    pb.FEATURE_STATUS_OUTSIDE_MAX_AGE,
)
_numbers = count()

PLACES = """
import pandas as pd
place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)
carrier = Entity(name="carrier", join_keys=["carrier_id"], value_type=ValueType.STRING)
place_view = FeatureView(name="place_view", entities=[place], ttl=timedelta(days=1),
    schema=[Field(name="place_id", dtype=Int64), Field(name="height", dtype=Float64)])
lane_view = FeatureView(name="lane_view", entities=[place, carrier],
    schema=[Field(name="place_id", dtype=Int64), Field(name="carrier_id", dtype=String), Field(name="days", dtype=Int64)])
global_view = FeatureView(name="global_view", schema=[Field(name="rate", dtype=Float64)])
sent = RequestSource(name="sent", schema=[Field(name="extra", dtype=Float64)])
@on_demand_feature_view(sources=[place_view, sent], schema=[Field(name="raised", dtype=Float64)])
def raised_view(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"raised": inputs["height"] + inputs["extra"]})
store.apply([place, carrier, place_view, lane_view, global_view, sent, raised_view])
origin = place_view.with_name("origin").with_join_key_map({"place_id": "origin_id"})
target = place_view.with_name("target").with_join_key_map({"place_id": "target_id"})
store.apply([
    FeatureService(name="route", features=[origin, target[["height"]], lane_view]),
    FeatureService(name="raising", features=[raised_view]),
])
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
    """One project for all tests here; each uses names of its own."""
    made = make_project("shared", tmp_path_factory.mktemp("feast"), valkey_port)
    columns: dict[str, list[object]] = {"event_timestamp": ["2024-01-01"], "user_id": ["u"], "user_number": [1]}
    made.write_history("users.parquet", **columns, total=[1], average=[1.5], label=["a"])
    return made


@pytest.fixture
async def backend(project: FeastProject) -> AsyncIterator[FeastBackend]:
    backend = FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=1000))
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def views(backend: FeastBackend) -> FeatureViews:
    return FeatureViews(backend=backend)


@pytest.fixture
def online(backend: FeastBackend) -> OnlineFeatures:
    return OnlineFeatures(backend=backend)


def user_view(**changes: object) -> pb.FeatureView:
    """A view of users under a name of its own, as a request holds it."""
    view = {
        "name": f"users_{next(_numbers)}",
        "entities": [{"name": "user", "join_key": "user_id"}],
        "features": [
            {"name": "total", "value_type": "VALUE_TYPE_INT64", "description": "how many"},
            {"name": "average", "value_type": "VALUE_TYPE_DOUBLE"},
        ],
        "ttl": "86400s",
        "source": {"path": "users.parquet", "timestamp_field": "event_timestamp"},
        "tags": {"team": "risk"},
        "description": "what users do",
    }
    return json_format.ParseDict({**view, **changes}, pb.FeatureView())


def pushed(view: str, *rows: Mapping[str, object], at: str = "") -> pb.PushFeaturesRequest:
    event_time = {"event_time": at} if at else {}
    return json_format.ParseDict(
        {"feature_view": view, "rows": [{"values": row, **event_time} for row in rows]}, pb.PushFeaturesRequest()
    )


def asked(entities: list[object], features: list[str] | None = None, service: str = "") -> pb.GetOnlineFeaturesRequest:
    rows = [{"entity_id": entity} if isinstance(entity, str) else {"keys": entity} for entity in entities]
    return json_format.ParseDict(
        {"features": features or [], "feature_service": service, "entities": rows}, pb.GetOnlineFeaturesRequest()
    )


def told(response: pb.GetOnlineFeaturesResponse) -> list[list[tuple[object, int]]]:
    """The values and statuses of each vector."""
    return [
        [(json_format.MessageToDict(feature.value), feature.status) for feature in vector.features] for vector in response.vectors
    ]


class TestRegistering:
    async def test_a_registered_view_is_told_as_it_was_defined(self, views: FeatureViews, project: FeastProject) -> None:
        """With its features in their order, its defaults filled in, and a path that means the same to everybody."""
        asked_for = user_view(entities=[{"name": "user", "join_key": "user_id"}])
        made = await views.register(asked_for)
        expected = pb.FeatureView()
        expected.CopyFrom(asked_for)
        expected.entities[0].value_type = pb.VALUE_TYPE_STRING
        expected.source.path = str(project.folder / "users.parquet")
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

    async def test_a_source_elsewhere_is_left_to_the_pipelines(self, views: FeatureViews) -> None:
        """What this machine cannot see it does not judge."""
        source = {"path": "s3://bucket/users.parquet", "timestamp_field": "event_timestamp"}
        assert (await views.register(user_view(source=source))).source.path == "s3://bucket/users.parquet"


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
        self, views: FeatureViews, project: FeastProject
    ) -> None:
        """A type that the contract does not know is unspecified, a source that is no file is absent, a stream's file is told."""
        project.apply(
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

    async def test_what_another_process_registers_is_found_at_once(self, views: FeatureViews, project: FeastProject) -> None:
        """A view that is not known is looked for in a fresh registry before it counts as missing."""
        with refused("FEATURE_VIEW_NOT_FOUND"):
            await views.get("late_view")
        project.apply("store.apply([FeatureView(name='late_view', schema=[Field(name='x', dtype=Int64)])])")
        assert (await views.get("late_view")).name == "late_view"

    async def test_what_another_process_registers_is_listed_within_the_ttl(self, project: FeastProject) -> None:
        """Nobody has to ask for it by name."""
        backend = FeastBackend(settings=FeastSettings(config_path=project.config_path, registry_ttl=0.2))
        await backend.open()
        views = FeatureViews(backend=backend)
        await views.list()
        project.apply("store.apply([FeatureView(name='later_view', schema=[Field(name='x', dtype=Int64)])])")
        end = time.monotonic() + 30
        while "later_view" not in {view.name for view in (await views.list())[0]}:
            assert time.monotonic() < end, "the registry was not refreshed"
            await asyncio.sleep(0.05)
        await backend.close()


class TestPushingAndReading:
    async def test_pushed_values_are_read_with_their_status_and_time(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """Fresh, empty, unknown and stale ones are told apart, in the order asked for."""
        name = (await views.register(user_view())).name
        assert await views.push(pushed(name, {"user_id": "a", "total": 3, "average": 0.5}, {"user_id": "b", "total": None})) == 2
        assert await views.push(pushed(name, {"user_id": "c", "total": 1, "average": 2}, at="2024-01-01T00:00:00Z")) == 1
        response = await online.get(asked(["c", "b", "nobody", "a"], [f"{name}:average", f"{name}:total"]))
        assert told(response) == [
            [(2.0, OLD), (1.0, OLD)],
            [(None, NULL), (None, NULL)],
            [(None, UNKNOWN), (None, UNKNOWN)],
            [(0.5, PRESENT), (3.0, PRESENT)],
        ]
        assert [vector.keys["user_id"] for vector in response.vectors] == ["c", "b", "nobody", "a"]
        first, nobody = response.vectors[0].features[0], response.vectors[2].features[0]
        assert first.event_time.ToJsonString() == "2024-01-01T00:00:00Z"
        assert (first.feature_view, first.name) == (name, "average")
        assert not nobody.HasField("event_time")

    async def test_a_view_s_name_alone_stands_for_all_of_its_features(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """Each once, however often it is asked for."""
        name = (await views.register(user_view())).name
        response = await online.get(asked(["a"], [f"{name}:average", name, f"{name}:average"]))
        assert [feature.name for feature in response.vectors[0].features] == ["average", "total"]

    async def test_every_type_comes_back_as_it_went_in(
        self, views: FeatureViews, online: OnlineFeatures, project: FeastProject
    ) -> None:
        """What JSON lacks comes back as text."""
        values: dict[str, object] = {
            "string": "text",
            "int32": -5,
            "int64": str(2**60),
            "float": 0.5,
            "double": 1e300,
            "bool": False,
            "timestamp": "2024-05-06T07:08:09Z",
            "bytes": "AAE=",
            "string_list": ["a", ""],
            "int64_list": [1, 2],
            "float_list": [0.5],
            "double_list": [],
        }
        columns: dict[str, list[object]] = {key: [None] for key in values}
        path = project.write_history("types.parquet", event_timestamp=["2024-01-01"], thing=["t"], **columns)
        view = user_view(
            entities=[{"name": "thing"}],
            features=[{"name": key, "value_type": f"VALUE_TYPE_{key.upper()}"} for key in values],
            source={"path": str(path), "timestamp_field": "event_timestamp"},
        )
        made = await views.register(view)
        assert [feature.value_type for feature in made.features] == [feature.value_type for feature in view.features]
        await views.push(pushed(view.name, {"thing": "x", **values}))
        read = await online.get(asked(["x"], [view.name]))
        assert {f.name: json_format.MessageToDict(f.value) for f in read.vectors[0].features} == values

    @pytest.mark.parametrize("key", [7, 7.0, "7"])
    async def test_keys_are_read_as_their_type_says(self, views: FeatureViews, online: OnlineFeatures, key: object) -> None:
        """A number in JSON is a double; a key that is an integer is found all the same."""
        view = user_view(entities=[{"name": "numbered", "join_key": "user_number", "value_type": "VALUE_TYPE_INT64"}])
        await views.register(view)
        await views.push(pushed(view.name, {"user_number": 7, "total": 1}))
        response = await online.get(asked([{"user_number": key}, str(key).removesuffix(".0")], [f"{view.name}:total"]))
        assert told(response) == [[(1.0, PRESENT)], [(1.0, PRESENT)]]
        assert response.vectors[0].keys["user_number"] == 7

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ({"total": 1}, "ENTITY_MISMATCH"),
            ({"user_id": None, "total": 1}, "ENTITY_MISMATCH"),
            ({"user_id": "a", "ghost": 1}, "FEATURE_NOT_FOUND"),
            ({"user_id": "a", "total": 1.5}, "FEATURE_VALUE_INVALID"),
            ({"user_id": "a", "average": "much"}, "FEATURE_VALUE_INVALID"),
            ({"user_id": ["a"], "total": 1}, "FEATURE_VALUE_INVALID"),
        ],
    )
    async def test_a_row_that_does_not_fit_is_named_and_none_is_written(
        self, views: FeatureViews, online: OnlineFeatures, row: dict[str, object], reason: str
    ) -> None:
        """The rows before it are not written either."""
        name = (await views.register(user_view())).name
        with refused(reason) as error:
            await views.push(pushed(name, {"user_id": "first", "total": 1}, row))
        if error.value.violations:
            assert error.value.violations[0].field.startswith("rows[1]")
        assert told(await online.get(asked(["first"], [f"{name}:total"]))) == [[(None, UNKNOWN)]]

    async def test_pushing_to_an_unknown_view_is_refused(self, views: FeatureViews) -> None:
        """By its name."""
        with refused("FEATURE_VIEW_NOT_FOUND"):
            await views.push(pushed("nobody_s", {"user_id": "a"}))

    @pytest.mark.parametrize(
        ("features", "service", "reason"),
        [
            (["nobody_s"], "", "FEATURE_VIEW_NOT_FOUND"),
            (["nobody_s:x"], "", "FEATURE_VIEW_NOT_FOUND"),
            (["{view}:ghost"], "", "FEATURE_NOT_FOUND"),
            (["{view}:user_id"], "", "FEATURE_NOT_FOUND"),
            ([], "nobody_s", "FEATURE_SERVICE_NOT_FOUND"),
            ([], "", "INVALID_FIELDS"),
            (["{view}"], "nobody_s", "INVALID_FIELDS"),
        ],
    )
    async def test_what_is_not_there_is_named(
        self, views: FeatureViews, online: OnlineFeatures, features: list[str], service: str, reason: str
    ) -> None:
        """View, feature and feature service are told apart."""
        name = (await views.register(user_view())).name
        with refused(reason):
            await online.get(asked(["a"], [feature.format(view=name) for feature in features], service))

    @pytest.mark.parametrize(
        ("entity", "reason"),
        [
            ({"user": "a"}, "ENTITY_MISMATCH"),
            ({"user_id": "a", "shop_id": 1}, "ENTITY_MISMATCH"),
            ({}, "ENTITY_MISMATCH"),
            ({"user_id": {"a": 1}}, "FEATURE_VALUE_INVALID"),
            ({"user_id": True}, "FEATURE_VALUE_INVALID"),
        ],
    )
    async def test_keys_that_do_not_fit_are_named(
        self, views: FeatureViews, online: OnlineFeatures, entity: dict[str, object], reason: str
    ) -> None:
        """With the row that they are in, and the keys that would fit."""
        name = (await views.register(user_view())).name
        with refused(reason) as error:
            await online.get(asked([{"user_id": "a"}, entity], [name]))
        assert error.value.violations[0].field.startswith("entities[1]")
        assert "user_id" in error.value.remedy

    async def test_a_history_without_rows_reads_as_unknown(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """A view that nobody materialized or pushed to is no error."""
        name = (await views.register(user_view())).name
        assert told(await online.get(asked(["a"], [f"{name}:total"]))) == [[(None, UNKNOWN)]]

    async def test_materialized_values_are_read_and_told_on_the_view(
        self, views: FeatureViews, online: OnlineFeatures, backend: FeastBackend, project: FeastProject
    ) -> None:
        """As a pipeline materializes them, in a process of its own; they are even read while the next job is at it."""
        name = (await views.register(user_view(ttl="0s"))).name
        project.apply(
            f"""
            from datetime import UTC, datetime
            from feast.feature_view import FeatureViewState
            store.materialize(datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), feature_views=["{name}"])
            store.set_feature_view_state("{name}", FeatureViewState.MATERIALIZING)
            """
        )
        await backend.refresh()
        assert told(await online.get(asked(["u"], [name]))) == [[(1.0, PRESENT), (1.5, PRESENT)]]
        assert (await views.get(name)).materialized_until.ToJsonString() == "2024-02-01T00:00:00Z"


class TestServices:
    @pytest.fixture(scope="class")
    def places(self, tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
        """A project with views of two entities, one of them looked up by two keys, and a view computed on demand."""
        project = make_project("places", tmp_path_factory.mktemp("places"), valkey_port)
        project.apply(PLACES)
        return project

    @pytest.fixture
    async def online(self, places: FeastProject) -> AsyncIterator[OnlineFeatures]:
        backend = FeastBackend(settings=FeastSettings(config_path=places.config_path))
        await backend.open()
        views = FeatureViews(backend=backend)
        await views.push(pushed("place_view", {"place_id": 1, "height": 10}, {"place_id": 2, "height": 20}))
        await views.push(pushed("lane_view", {"place_id": 1, "carrier_id": "c", "days": 4}))
        await views.push(pushed("global_view", {"rate": 0.25}))
        yield OnlineFeatures(backend=backend)
        await backend.close()

    async def test_a_service_reads_one_view_by_several_keys(self, online: OnlineFeatures) -> None:
        """Its aliases are the views' names, and its keys are those it maps them to."""
        plan = await online.plan(feature_service="route")
        assert {key.name: key.value_type for key in plan.join_keys} == {
            "origin_id": pb.VALUE_TYPE_INT64,
            "target_id": pb.VALUE_TYPE_INT64,
            "place_id": pb.VALUE_TYPE_INT64,
            "carrier_id": pb.VALUE_TYPE_STRING,
        }
        assert [feature.column for feature in plan.features] == ["origin__height", "target__height", "lane_view__days"]
        row = {"origin_id": 1, "target_id": "2", "place_id": 1.0, "carrier_id": "c", "ignored": object()}
        cells = await online.read(plan, [row, {**row, "carrier_id": "nobody"}])
        assert [[(cell.value, cell.status) for cell in cells_of_row] for cells_of_row in cells] == [
            [(10.0, PRESENT), (20.0, PRESENT), (4, PRESENT)],
            [(10.0, PRESENT), (20.0, PRESENT), (None, UNKNOWN)],
        ]

    async def test_a_plan_is_read_for_no_rows_at_all(self, online: OnlineFeatures) -> None:
        """Nothing in, nothing out."""
        assert await online.read(await online.plan(feature_service="route"), []) == []

    async def test_features_computed_on_demand_take_their_inputs_as_keys(self, online: OnlineFeatures) -> None:
        """What the computation needs from the caller stands among the keys."""
        plan = await online.plan(feature_service="raising")
        assert {key.name for key in plan.join_keys} == {"place_id", "extra"}
        response = await online.get(asked([{"place_id": 2, "extra": 0.5}], service="raising"))
        assert told(response) == [[(20.5, PRESENT)]]

    async def test_features_of_no_entity_need_no_key(self, online: OnlineFeatures) -> None:
        """Each row has the same value."""
        response = await online.get(asked([{}, {}], ["global_view:rate"]))
        assert told(response) == [[(0.25, PRESENT)], [(0.25, PRESENT)]]

    async def test_an_id_alone_does_not_stand_for_several_keys(self, online: OnlineFeatures) -> None:
        """The error lists them."""
        with refused("ENTITY_MISMATCH") as error:
            await online.get(asked(["1"], ["lane_view"]))
        assert "place_id, carrier_id" in error.value.remedy

    async def test_checking_names_finds_what_is_missing(self, online: OnlineFeatures) -> None:
        """Nothing named is fine, and so is what exists."""
        await online.check()
        await online.check(features=["place_view:height"], feature_service="route")
        with refused("FEATURE_SERVICE_NOT_FOUND"):
            await online.check(feature_service="nobody's")
        with refused("FEATURE_NOT_FOUND"):
            await online.check(features=["place_view:ghost"], feature_service="route")


class TestBadDays:
    async def test_a_feature_store_that_is_well_passes_its_probe(self, backend: FeastBackend, views: FeatureViews) -> None:
        """With views to try the online store with, and without."""
        await backend.probe()
        await views.register(user_view())
        await backend.probe()

    async def test_an_online_store_that_is_down_is_told_at_once(self, project: FeastProject, tmp_path: Path) -> None:
        """And it is used again once it is back, without anything being opened anew."""
        port = free_port()
        down = make_project("down", tmp_path, port)
        down.write_history("users.parquet", event_timestamp=["2024-01-01"], user_id=["u"], total=[1], average=[1.5])
        backend = FeastBackend(settings=FeastSettings(config_path=down.config_path))
        await backend.open()
        views, online = FeatureViews(backend=backend), OnlineFeatures(backend=backend)
        name = (await views.register(user_view())).name
        begun = time.monotonic()
        for call in (backend.probe(), online.get(asked(["a"], [name])), views.push(pushed(name, {"user_id": "a"}))):
            with refused("BACKEND_UNAVAILABLE"):
                await call
        assert time.monotonic() - begun < 5.0
        with running(valkey_command(port, tmp_path), log=tmp_path / "valkey.log", ready=lambda: accepts(port)):
            await views.push(pushed(name, {"user_id": "a", "total": 9}))
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

    async def test_the_loop_goes_on_while_feast_loads(self, project: FeastProject) -> None:
        """A short deadline of the first caller does not end the loading for the others."""
        backend = FeastBackend(settings=FeastSettings(config_path=project.config_path))
        with pytest.raises((PlatformError, TimeoutError)):
            await asyncio.wait_for(backend.probe(), 0.001)
        await backend.probe()
        await backend.close()
