"""What predictions do about features that are missing or stale is the deployment's policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from ml_platform.v1 import deployments_pb2 as pb
from ml_platform.v1 import features_pb2, models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.observability.recorders import ModelMetrics, ModelSeries
from ml_platform_server.serving.features.enrich_rows import Enrichment
from ml_platform_server.serving.inputs.policy import DEFAULT_POLICY, Policy, compiled
from ml_platform_server.serving.inputs.rows import Row, decoder
from ml_platform_server.serving.inputs.signature import columns_of
from tests.support.serving import FakeFeatures, column, fields, struct

NULL_OR_FAIL, FAIL = pb.MISSING_FEATURES_NULL_OR_FAIL, pb.MISSING_FEATURES_FAIL
DEFAULT, PROCEED = pb.MISSING_FEATURES_DEFAULT, pb.MISSING_FEATURES_PROCEED
STALE = features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE
DEFAULTED = features_pb2.FEATURE_STATUS_DEFAULT
NOT_FOUND, NULL = features_pb2.FEATURE_STATUS_NOT_FOUND, features_pb2.FEATURE_STATUS_NULL_VALUE


class Path:
    """A model that takes `total`, which it must have, and `average`, which may be null; both are features of users."""

    def __init__(self, *, stale: bool = False) -> None:
        self.store = FakeFeatures(
            views={"users": ("total", "average")},
            keys={"users": ("user_id",)},
            stored={
                ("users", ("u1",)): {"total": 10.0, "average": 2.5},
                ("users", ("u2",)): {"total": 20.0, "average": None},
            },
            stale=stale,
        )
        version = models_pb2.ModelVersion(model_name="m", version=1, feature_refs=["users:total", "users:average"])
        self.columns = columns_of(models_pb2.ModelSignature(inputs=[column("total"), column("average", required=False)]))
        self.enrichment = Enrichment(version=version, columns=self.columns, reader=self.store)

    async def run(self, *rows: tuple[Mapping[str, object], Policy]) -> tuple[list[Row], list[str]]:
        """The rows, and for each the reason of its error or ""."""
        made = [self._row(inputs, policy) for inputs, policy in rows]
        outcomes = await self.enrichment.enrich(made)
        return made, ["" if error is None else error.reason_name for error in outcomes]

    async def ask(self, user: str, policy: Policy, **inputs: object) -> tuple[Row, str]:
        (row,), (reason,) = await self.run(({"user_id": user, **inputs}, policy))
        return row, reason

    def policy(self, missing: int = 0, stale: int = 0, **defaults: object) -> Policy:
        message = pb.FeaturePolicy(missing=missing, stale=stale, defaults=struct(defaults))  # type: ignore[arg-type]  # an enum's number
        return compiled(message, self.columns)

    def _row(self, inputs: Mapping[str, object], policy: Policy) -> Row:
        return decoder(self.columns)(fields(**inputs), policy)


@pytest.mark.parametrize("missing", [0, NULL_OR_FAIL, FAIL, DEFAULT, PROCEED])
async def test_no_policy_changes_a_row_that_has_everything(missing: int) -> None:
    """Values that are present are used whatever the policy, and nothing is degraded."""
    path = Path()

    row, reason = await path.ask("u1", path.policy(missing, pb.STALE_FEATURES_FAIL, total=-1.0))

    assert (row.values, row.degraded, reason) == ([10.0, 2.5], (), "")


@pytest.mark.parametrize(
    ("missing", "values", "degraded", "status"),
    [
        (0, [20.0, None], (), NULL),
        (NULL_OR_FAIL, [20.0, None], (), NULL),
        (PROCEED, [20.0, None], ("users:average",), NULL),
        (DEFAULT, [20.0, 7.5], ("users:average",), DEFAULTED),
    ],
)
async def test_a_null_goes_by_the_policy(missing: int, values: list[object], degraded: Sequence[str], status: int) -> None:
    """A stored null is null, or the default, where the model takes null; the reply names it where the policy says so."""
    path = Path()

    row, reason = await path.ask("u2", path.policy(missing, average=7.5) if missing == DEFAULT else path.policy(missing))

    assert (row.values, tuple(row.degraded), row.cells[1].status, reason) == (values, degraded, status, "")


async def test_a_null_fails_under_the_policy_to_fail() -> None:
    """Even a column that takes null fails the prediction when its feature has no value."""
    path = Path()

    assert (await path.ask("u2", path.policy(FAIL)))[1] == "FEATURE_MISSING"


@pytest.mark.parametrize("missing", [0, NULL_OR_FAIL, FAIL, PROCEED])
async def test_an_unknown_entity_fails_where_the_model_needs_a_value(missing: int) -> None:
    """Without a default there is nothing to put into a required column."""
    path = Path()

    assert (await path.ask("nobody", path.policy(missing)))[1] == "FEATURE_MISSING"


async def test_an_unknown_entity_is_predicted_by_defaults() -> None:
    """Defaults take the place of all features of an entity that is not there, and what the caller sends still wins."""
    path = Path()
    policy = path.policy(DEFAULT, total=1.0, average=2.0)

    row, _ = await path.ask("nobody", policy)
    sent, _ = await path.ask("nobody", policy, average=5.0)

    assert (row.values, row.degraded) == ([1.0, 2.0], ("users:total", "users:average"))
    assert [(cell.value, cell.status) for cell in row.cells.values()] == [(1.0, DEFAULTED), (2.0, DEFAULTED)]
    assert (sent.values, sent.degraded) == ([1.0, 5.0], ("users:total",))


async def test_a_feature_without_a_default_is_null_or_an_error() -> None:
    """Under the policy of defaults, a column that has none is null if it may be, and named; else the prediction fails."""
    path = Path()

    row, _ = await path.ask("nobody", path.policy(DEFAULT, total=1.0))
    _, reason = await path.ask("nobody", path.policy(DEFAULT, average=1.0))

    assert (row.values, row.degraded) == ([1.0, None], ("users:total", "users:average"))
    assert reason == "FEATURE_MISSING"


@pytest.mark.parametrize(
    ("stale", "degraded"), [(0, ()), (pb.STALE_FEATURES_USE, ()), (pb.STALE_FEATURES_PROCEED, ("users:total", "users:average"))]
)
async def test_an_old_value_is_used(stale: int, degraded: Sequence[str]) -> None:
    """A value older than its view allows is used unless the policy forbids it; the reply names it where the policy says so."""
    path = Path(stale=True)

    row, reason = await path.ask("u1", path.policy(stale=stale))

    assert (row.values, tuple(row.degraded), reason) == ([10.0, 2.5], degraded, "")
    assert {cell.status for cell in row.cells.values()} == {STALE}


async def test_an_old_value_fails_under_the_policy_to_fail() -> None:
    """FEATURE_STALE names the features; a value that the caller sends is never old."""
    path = Path(stale=True)
    policy = path.policy(stale=pb.STALE_FEATURES_FAIL)

    row = path._row({"user_id": "u1", "average": 1.0}, policy)
    (error,) = await path.enrichment.enrich([row])

    assert isinstance(error, PlatformError)
    assert (error.reason_name, error.metadata["features"]) == ("FEATURE_STALE", "users:total")


async def test_an_old_value_may_count_as_missing() -> None:
    """Then the policy for missing ones decides, and the reply does not show the old value as one that was used."""
    path = Path(stale=True)
    as_missing = pb.STALE_FEATURES_AS_MISSING

    row, _ = await path.ask("u1", path.policy(DEFAULT, as_missing, total=1.0))
    _, reason = await path.ask("u1", path.policy(NULL_OR_FAIL, as_missing))

    assert (row.values, row.degraded) == ([1.0, None], ("users:total", "users:average"))
    assert [(cell.value, cell.status) for cell in row.cells.values()] == [(1.0, DEFAULTED), (None, STALE)]
    assert reason == "FEATURE_MISSING"


async def test_each_row_of_a_batch_has_its_own_policy() -> None:
    """Rows of two deployments of one model are read together, and each goes by the policy of its own."""
    path = Path()
    careful, relaxed = path.policy(FAIL), path.policy(DEFAULT, total=1.0, average=2.0)
    nobody = {"user_id": "nobody"}

    rows, reasons = await path.run((nobody, careful), (nobody, relaxed), (nobody, DEFAULT_POLICY))

    assert reasons == ["FEATURE_MISSING", "", "FEATURE_MISSING"]
    assert (rows[1].values, len(path.store.reads)) == ([1.0, 2.0], 1)


async def test_no_default_stands_in_for_a_store_that_is_down() -> None:
    """A store that does not answer says nothing of its values: the prediction fails, even if the model takes null."""
    path = Path()
    path.store.down = True

    _, never_resolved = await path.ask("u1", path.policy(PROCEED), total=1.0)
    path.store.down = False
    await path.enrichment.prepare()
    path.store.down = True
    _, resolved = await path.ask("u1", path.policy(DEFAULT, total=1.0))

    assert (never_resolved, resolved) == ("BACKEND_UNAVAILABLE", "BACKEND_UNAVAILABLE")


async def test_reads_are_timed_and_what_they_find_is_counted() -> None:
    """Each feature that a row needed counts once, by the status that the store gave it."""
    path = Path()
    series = ModelSeries("m", "1")
    version = models_pb2.ModelVersion(model_name="m", version=1, feature_refs=["users:total", "users:average"])
    path.enrichment = Enrichment(version=version, columns=path.columns, reader=path.store, metrics=ModelMetrics(series))

    await path.run(
        ({"user_id": "u1"}, DEFAULT_POLICY), ({"user_id": "u2"}, DEFAULT_POLICY), ({"user_id": "nobody"}, DEFAULT_POLICY)
    )

    assert sorted(series.statuses()) == [("NOT_FOUND", 2), ("NULL_VALUE", 1), ("PRESENT", 3)]
    assert series.feature_read.count == 1


def test_a_default_that_does_not_fit_is_left_out() -> None:
    """What deploying should have refused keeps nobody from serving."""
    path = Path()

    assert path.policy(DEFAULT, total="much", height=1.0, average=2.0).defaults == {1: 2.0}
