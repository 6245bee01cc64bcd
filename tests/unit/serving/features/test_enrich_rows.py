"""What the caller did not send comes from the feature store, and what is wrong is told row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ml_platform.v1 import errors_pb2, features_pb2, models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.features.enrich_rows import Enrichment
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY
from ml_platform_server.serving.inputs.rows import Row, decoder
from ml_platform_server.serving.inputs.signature import columns_of
from tests.support.serving import FakeFeatures, column, fields

AMOUNT, TOTAL, AVERAGE, RISK = column("amount"), column("total"), column("average"), column("shops__risk")


def _store() -> FakeFeatures:
    return FakeFeatures(
        views={"users": ("total", "average", "age"), "shops": ("risk", "size")},
        keys={"users": ("user_id",), "shops": ("shop_id",)},
        services={"scoring": ("users:total", "users:average", "shops:risk")},
        stored={
            ("users", ("u1",)): {"total": 10.0, "average": 2.5, "age": 30},
            ("users", ("u2",)): {"total": 20.0, "average": None},
            ("shops", ("s1",)): {"risk": 0.25, "size": 4},
        },
    )


class Path:
    """A model version's inputs and its enrichment."""

    def __init__(
        self,
        store: FakeFeatures,
        inputs: Sequence[models_pb2.ColumnSpec],
        *,
        service: str = "",
        refs: Sequence[str] = (),
    ) -> None:
        version = models_pb2.ModelVersion(model_name="m", version=1, feature_service=service, feature_refs=refs)
        self.columns = columns_of(models_pb2.ModelSignature(inputs=inputs))
        self.enrichment = Enrichment(version=version, columns=self.columns, reader=store)

    async def run(self, *requests: Mapping[str, object]) -> tuple[list[Row], list[PlatformError | None]]:
        rows = [decoder(self.columns)(fields(**request), DEFAULT_POLICY) for request in requests]
        return rows, await self.enrichment.enrich(rows)


def _reason(error: PlatformError | None) -> str:
    return "" if error is None else error.reason_name


async def test_missing_columns_are_read_by_the_join_key() -> None:
    """A column that is a feature and was not sent is read; the statuses and times of the cells are kept."""
    path = Path(_store(), [AMOUNT, TOTAL, AVERAGE], refs=["users:total", "users:average"])

    (row,), outcomes = await path.run({"user_id": "u1", "amount": 7.0})

    assert outcomes == [None]
    assert row.values == [7.0, 10.0, 2.5]
    assert {at: cell.status for at, cell in row.cells.items()} == dict.fromkeys((1, 2), features_pb2.FEATURE_STATUS_PRESENT)


async def test_what_the_caller_sends_wins() -> None:
    """A feature that the caller sends is not replaced by the stored one, even while others are read."""
    path = Path(_store(), [AMOUNT, TOTAL, AVERAGE], refs=["users:total", "users:average"])

    (row,), _ = await path.run({"user_id": "u1", "amount": 7.0, "total": 99.0})

    assert row.values == [7.0, 99.0, 2.5]
    assert list(row.cells) == [2]


async def test_nothing_is_read_when_everything_is_sent() -> None:
    """A caller who sends every column needs no join key, and the feature store is not asked."""
    store = _store()
    path = Path(store, [AMOUNT, TOTAL], refs=["users:total"])

    (row,), outcomes = await path.run({"amount": 7.0, "total": 1.0})

    assert (row.values, outcomes, store.reads) == ([7.0, 1.0], [None], [])


async def test_a_batch_is_read_at_once() -> None:
    """Rows that need the same features cost one read, and rows that need none are not part of it."""
    store = _store()
    path = Path(store, [AMOUNT, TOTAL], refs=["users:total"])

    rows, outcomes = await path.run(
        {"user_id": "u1", "amount": 1.0}, {"amount": 2.0, "total": 5.0}, {"user_id": "u2", "amount": 3.0}
    )

    assert outcomes == [None, None, None]
    assert [row.values for row in rows] == [[1.0, 10.0], [2.0, 5.0], [3.0, 20.0]]
    assert store.reads == [(["users:total"], [{"user_id": "u1"}, {"user_id": "u2"}])]


async def test_a_bad_row_leaves_its_neighbours_alone() -> None:
    """In a batch, rows that lack a key, a column or a stored value fail alone."""
    path = Path(_store(), [AMOUNT, TOTAL], refs=["users:total"])

    rows, outcomes = await path.run(
        {"user_id": "u1", "amount": 1.0}, {"amount": 1.0}, {"user_id": "nobody", "amount": 1.0}, {"user_id": "u2"}
    )

    assert [_reason(error) for error in outcomes] == ["", "INPUT_MISSING", "FEATURE_MISSING", "INPUT_MISSING"]
    assert rows[0].values == [1.0, 10.0]


async def test_features_that_are_no_columns_are_not_read() -> None:
    """A feature service may hold more than the model takes: only the model's columns are read, with their keys alone."""
    store = _store()
    path = Path(store, [AMOUNT, TOTAL], service="scoring")

    (row,), outcomes = await path.run({"user_id": "u1", "amount": 1.0})

    assert (row.values, outcomes) == ([1.0, 10.0], [None])
    assert store.reads == [(["users:total"], [{"user_id": "u1"}])]


async def test_several_entities_are_read_together() -> None:
    """Features of two entities come by two join keys, and a column may be called view__feature."""
    path = Path(_store(), [AMOUNT, TOTAL, AVERAGE, RISK], service="scoring")

    (row,), outcomes = await path.run({"user_id": "u1", "shop_id": "s1", "amount": 1.0})

    assert (row.values, outcomes) == ([1.0, 10.0, 2.5, 0.25], [None])


async def test_a_key_whose_features_are_all_sent_is_not_needed() -> None:
    """A caller who sends all features of one entity needs the other entity's key only."""
    store = _store()
    path = Path(store, [AMOUNT, TOTAL, AVERAGE, RISK], service="scoring")

    (row,), outcomes = await path.run({"user_id": "u1", "amount": 1.0, "shops__risk": 0.75})

    assert (row.values, outcomes) == ([1.0, 10.0, 2.5, 0.75], [None])
    assert store.reads == [(["users:total", "users:average"], [{"user_id": "u1"}])]


@pytest.mark.parametrize(
    ("name", "sent"),
    [("total", "users__total"), ("users__total", "total"), ("total", "users:total"), ("users__total", "users:total")],
)
async def test_every_name_of_a_feature_is_taken(name: str, sent: str) -> None:
    """A column called like its feature may be sent as view__feature, the other way round, and as the feature's reference."""
    store = _store()
    path = Path(store, [AMOUNT, column(name)], refs=["users:total"])

    (row,), outcomes = await path.run({"amount": 1.0, sent: 3.0})

    assert (row.values, outcomes, store.reads) == ([1.0, 3.0], [None], [])


async def test_a_name_that_two_views_share_is_bound_to_none() -> None:
    """A plain column name that several views have is not filled by chance."""
    store = FakeFeatures(views={"a": ("x",), "b": ("x",)}, keys={"a": ("k",), "b": ("k",)})
    path = Path(store, [column("x")], refs=["a:x", "b:x"])

    _, (error,) = await path.run({"k": "1"})

    assert _reason(error) == "INPUT_MISSING"


@pytest.mark.parametrize("refs", [["a:x", "b:x"], ["b:x", "a:x"], ["a:x", "b:x", "a:y"]])
async def test_a_shared_name_beside_a_full_one_is_bound_to_none(refs: list[str]) -> None:
    """Whichever feature it may be: the one that the full name takes is no more likely than the other."""
    store = FakeFeatures(views={"a": ("x", "y"), "b": ("x",)}, keys={"a": ("k",), "b": ("k",)})
    store.stored = {("a", ("1",)): {"x": 1.0, "y": 2.0}, ("b", ("1",)): {"x": 3.0}}
    path = Path(store, [column("a__x"), column("x")], refs=refs)

    (row, _), (none, error) = await path.run({"k": "1", "x": 5.0}, {"k": "1"})

    assert (row.values, none) == ([1.0, 5.0], None)
    assert _reason(error) == "INPUT_MISSING"


async def test_a_join_key_may_be_a_column_too() -> None:
    """A join key that the model takes as an input serves both."""
    path = Path(_store(), [column("user_id", "string"), TOTAL], refs=["users:total"])

    (row,), outcomes = await path.run({"user_id": "u1"})

    assert (row.values, outcomes) == (["u1", 10.0], [None])


async def test_everything_missing_is_named_at_once() -> None:
    """The error names the columns that no feature supplies and the join key with what it would look up."""
    path = Path(_store(), [AMOUNT, column("hour", "long"), TOTAL, AVERAGE], refs=["users:total", "users:average"])

    _, (error,) = await path.run({"average": 1.0})

    assert error is not None
    assert [violation.field for violation in error.violations] == ["inputs.amount", "inputs.hour", "inputs.user_id"]
    assert error.message == "The inputs lack amount, hour, user_id (by which total would be looked up)."


async def test_a_join_key_that_is_missing_names_only_what_it_looks_up() -> None:
    """Of several join keys, the error tells of each that was not sent which columns it looks up, and of the others nothing."""
    path = Path(_store(), [AMOUNT, TOTAL, AVERAGE, RISK], service="scoring")

    _, (one, both) = await path.run({"user_id": "u1", "amount": 1.0}, {"amount": 1.0})

    assert one is not None
    assert both is not None
    assert one.message == "The inputs lack shop_id (by which shops__risk would be looked up)."
    assert one.remedy == "Send the join key, or shops__risk themselves."
    assert [violation.description for violation in both.violations] == [
        "the join key that looks up total, average",
        "the join key that looks up shops__risk",
    ]
    assert both.remedy == "Send the join keys, or total, average, shops__risk themselves."


async def test_a_null_join_key_is_none() -> None:
    """A join key that is null counts as not sent."""
    path = Path(_store(), [TOTAL], refs=["users:total"])

    _, (error,) = await path.run({"user_id": None})

    assert _reason(error) == "INPUT_MISSING"


async def test_an_unsuitable_join_key_is_told() -> None:
    """A join key of another type is INPUT_INVALID at its own path."""
    path = Path(_store(), [TOTAL], refs=["users:total"])

    _, (error,) = await path.run({"user_id": [1.0]})

    assert error is not None
    assert (error.reason_name, [v.field for v in error.violations]) == ("INPUT_INVALID", ["inputs.user_id"])
    assert "FeatureService.GetFeatureView" in error.remedy


async def test_a_missing_feature_names_feature_and_entity() -> None:
    """A required feature without a value is FEATURE_MISSING, and programs find both in the metadata."""
    path = Path(_store(), [TOTAL, AVERAGE], refs=["users:total", "users:average"])

    _, (error,) = await path.run({"user_id": "u2"})

    assert error is not None
    assert error.reason == errors_pb2.ERROR_REASON_FEATURE_MISSING
    assert error.metadata == {"features": "users:average", "entity": "user_id=u2"}
    assert error.remedy == "Check the key, materialize or push the features, or send average with the request."


async def test_an_optional_feature_may_be_missing() -> None:
    """An optional column without a stored value is null, and its cell says why."""
    path = Path(_store(), [TOTAL, column("average", required=False)], refs=["users:total", "users:average"])

    (row,), outcomes = await path.run({"user_id": "u2"})

    assert (row.values, outcomes) == ([20.0, None], [None])
    assert row.cells[1].status == features_pb2.FEATURE_STATUS_NULL_VALUE


async def test_a_stale_value_is_used() -> None:
    """A value older than its view's ttl is used; its cell says that it is stale."""
    store = _store()
    store.stale = True
    path = Path(store, [TOTAL], refs=["users:total"])

    (row,), outcomes = await path.run({"user_id": "u1"})

    assert (row.values, outcomes) == ([10.0], [None])
    assert row.cells[0].status == features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE


async def test_a_stored_value_that_fits_no_column_is_told() -> None:
    """A stored value that the signature's type cannot hold is FEATURE_VALUE_INVALID, not a crash."""
    path = Path(_store(), [column("average", "long")], refs=["users:average"])

    _, (error,) = await path.run({"user_id": "u1"})

    assert _reason(error) == "FEATURE_VALUE_INVALID"


async def test_a_feature_store_that_is_down_only_hurts_who_needs_it() -> None:
    """While Feast is down, complete requests are served and the others get BACKEND_UNAVAILABLE, until it is back."""
    store = _store()
    store.down = True
    path = Path(store, [AMOUNT, TOTAL], refs=["users:total"])
    await path.enrichment.prepare()

    _, outcomes = await path.run({"amount": 1.0, "total": 2.0}, {"amount": 1.0, "user_id": "u1"})
    store.down = False
    _, healed = await path.run({"amount": 1.0, "user_id": "u1"})

    assert [_reason(error) for error in outcomes] == ["", "BACKEND_UNAVAILABLE"]
    assert healed == [None]


async def test_a_feature_service_that_is_gone_is_replaced_by_the_features() -> None:
    """A version that remembers both falls back to its features when the feature service was deleted."""
    path = Path(_store(), [TOTAL], service="deleted", refs=["users:total"])

    (row,), _ = await path.run({"user_id": "u1"})

    assert row.values == [10.0]


async def test_inputs_that_nothing_uses_are_told() -> None:
    """Extra inputs are let pass and listed; columns, join keys and other names of features are none."""
    path = Path(_store(), [AMOUNT, TOTAL], refs=["users:total"])
    sent = fields(amount=1.0, ammount=2.0, user_id="u1", users__total=1.0, **{"users:total": 1.0})
    before = path.enrichment.unused(sent)
    await path.enrichment.prepare()

    assert (list(before), path.enrichment.unused(sent)) == ([], ["ammount"])


async def test_few_of_many_unused_inputs_are_named() -> None:
    """However many inputs nothing uses, and however long their names, a response has room for those that it names."""
    path = Path(_store(), [AMOUNT])
    await path.enrichment.prepare()

    unused = path.enrichment.unused([f"{at:06}" + "x" * 10_000 for at in reversed(range(5000))])

    assert [name[:6] for name in unused] == [f"{at:06}" for at in range(100)]
    assert {len(name) for name in unused} == {200}
