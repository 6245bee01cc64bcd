"""Online features, pushed, materialized and read, through the door to a real Feast project on a real Valkey."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf import json_format

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.online import OnlineFeatures
from ml_platform_server.backends.feast.registry.views import FeatureViews
from tests.support.feast_project import FeastProject
from tests.support.feast_requests import NULL, OLD, PRESENT, UNKNOWN, asked, pushed, told, user_view
from tests.support.refusals import refused


class TestPushingAndReading:
    async def test_pushed_values_are_read_with_their_status_and_time(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """Fresh, empty, unknown and stale ones are told apart, in the order asked for."""
        name = (await views.register(user_view())).name
        both = pushed(name, {"user_id": "a", "total": 3, "average": 0.5}, {"user_id": "b", "total": None, "average": None})
        assert (await views.push(both)).row_count == 2
        old = pushed(name, {"user_id": "c", "total": 1, "average": 2}, at="2024-01-01T00:00:00Z")
        assert (await views.push(old)).row_count == 1
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

    async def test_infinity_and_nan_inside_of_lists_come_back_by_name(
        self, views: FeatureViews, online: OnlineFeatures, feast_project: FeastProject
    ) -> None:
        """As they may be sent, so that no value that is present is told as null; NaN alone is a missing value."""
        columns: dict[str, list[object]] = {"float": [None], "double": [None], "float_list": [None], "double_list": [None]}
        path = feast_project.write_history("infinite.parquet", event_timestamp=["2024-01-01"], infinite=["t"], **columns)
        view = user_view(
            entities=[{"name": "infinite"}],
            features=[{"name": key, "value_type": f"VALUE_TYPE_{key.upper()}"} for key in columns],
            source={"path": str(path), "timestamp_field": "event_timestamp"},
        )
        name = (await views.register(view)).name
        numbers = ["Infinity", "-Infinity", "NaN", 0.5]
        row = {"infinite": "a", "float": "Infinity", "double": "-Infinity", "float_list": numbers, "double_list": numbers}
        await views.push(pushed(name, row, {**row, "infinite": "b", "float": "NaN", "double": "NaN"}))
        response = await online.get(asked(["a", "b"], [name]))
        types = [f"VALUE_TYPE_{key.upper()}" for key in columns]
        assert [features_pb2.ValueType.Name(each.value_type) for each in response.vectors[0].features] == types
        assert told(response) == [
            [("Infinity", PRESENT), ("-Infinity", PRESENT), (numbers, PRESENT), (numbers, PRESENT)],
            [(None, NULL), (None, NULL), (numbers, PRESENT), (numbers, PRESENT)],
        ]

    async def test_a_view_s_name_alone_stands_for_all_of_its_features(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """Each once, however often it is asked for."""
        name = (await views.register(user_view())).name
        response = await online.get(asked(["a"], [f"{name}:average", name, f"{name}:average"]))
        assert [feature.name for feature in response.vectors[0].features] == ["average", "total"]

    async def test_every_type_comes_back_as_it_went_in(
        self, views: FeatureViews, online: OnlineFeatures, feast_project: FeastProject
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
        path = feast_project.write_history("types.parquet", event_timestamp=["2024-01-01"], thing=["t"], **columns)
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
        await views.push(pushed(view.name, {"user_number": 7, "total": 1, "average": None}))
        response = await online.get(asked([{"user_number": key}, str(key).removesuffix(".0")], [f"{view.name}:total"]))
        assert told(response) == [[(1.0, PRESENT)], [(1.0, PRESENT)]]
        assert response.vectors[0].keys["user_number"] == 7
        assert dict(response.key_types) == {"user_number": features_pb2.VALUE_TYPE_INT64}

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
            await views.push(pushed(name, {"user_id": "first", "total": 1, "average": 1}, row))
        if error.value.violations:
            assert error.value.violations[0].field.startswith("rows[1]")
        assert told(await online.get(asked(["first"], [f"{name}:total"]))) == [[(None, UNKNOWN)]]

    async def test_a_row_that_leaves_features_out_is_refused(self, views: FeatureViews, online: OnlineFeatures) -> None:
        """They would look missing; null says so where that is meant. The store keeps what it has."""
        name = (await views.register(user_view())).name
        whole = {"user_id": "a", "total": 1, "average": 0.5}
        await views.push(pushed(name, whole))
        with refused("INVALID_FIELDS") as error:
            await views.push(pushed(name, whole, {"user_id": "a", "total": 2}, {"user_id": "a"}))
        assert [(violation.field, violation.description) for violation in error.value.violations] == [
            ("rows[1].values", "lacks average"),
            ("rows[2].values", "lacks total, average"),
        ]
        assert told(await online.get(asked(["a"], [name]))) == [[(1.0, PRESENT), (0.5, PRESENT)]]

    async def test_a_time_far_ahead_is_refused(self, views: FeatureViews) -> None:
        """After it the store would drop every true value as older; clocks may differ by a day all the same."""
        name = (await views.register(user_view())).name
        row = {"user_id": "a", "total": 1, "average": 1}
        soon, late = (datetime.now(UTC) + timedelta(hours=hours) for hours in (23, 25))
        assert (await views.push(pushed(name, row, at=soon.isoformat()))).row_count == 1
        with refused("INVALID_FIELDS") as error:
            await views.push(pushed(name, row, at=late.isoformat()))
        assert error.value.violations[0].field == "rows[0].event_time"

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
        self, views: FeatureViews, online: OnlineFeatures, feast_backend: FeastBackend, feast_project: FeastProject
    ) -> None:
        """As a pipeline materializes them, in a process of its own; they are even read while the next job is at it."""
        name = (await views.register(user_view(ttl="0s"))).name
        feast_project.apply(
            f"""
            from datetime import UTC, datetime
            from feast.feature_view import FeatureViewState
            store.materialize(datetime(2023, 12, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC), feature_views=["{name}"])
            store.set_feature_view_state("{name}", FeatureViewState.MATERIALIZING)
            """
        )
        await feast_backend.refresh()
        assert told(await online.get(asked(["u"], [name]))) == [[(1.0, PRESENT), (1.5, PRESENT)]]
        assert (await views.get(name)).materialized_until.ToJsonString() == "2024-02-01T00:00:00Z"
