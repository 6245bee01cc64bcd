"""Feature services with all that Feast allows: aliases, renamed keys, several entities, none, and features computed on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ml_platform.v1 import features_pb2 as pb
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from ml_platform_server.settings import FeastSettings
from tests.support.feast_project import FeastProject, OneProcess, make_project
from tests.support.feast_requests import PRESENT, UNKNOWN, asked, pushed, told
from tests.support.refusals import refused

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


@pytest.fixture(scope="module", name="places")
def places_fixture(tmp_path_factory: pytest.TempPathFactory, valkey_port: int) -> FeastProject:
    """A project with views of two entities, one of them looked up by two keys, and a view computed on demand."""
    project = make_project("places", tmp_path_factory.mktemp("places"), valkey_port)
    project.apply(PLACES)
    return project


class TestServices:
    @pytest.fixture
    async def online(self, places: FeastProject) -> AsyncIterator[OnlineFeatures]:
        backend = FeastBackend(settings=FeastSettings(config_path=places.config_path))
        await backend.open()
        views = FeatureViews(backend=backend, locks=OneProcess())
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
        assert [feature.join_keys for feature in plan.features] == [("origin_id",), ("target_id",), ("place_id", "carrier_id")]
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
        assert [feature.join_keys for feature in plan.features] == [("place_id", "extra")]
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
