"""A policy that makes no sense for a model is refused before anything is deployed."""

from __future__ import annotations

import pytest

from ml_platform.v1 import deployments_pb2 as pb
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.features.policy_check import PolicyChecker
from tests.support.refusals import refused
from tests.support.serving import FakeFeatures, FakeRegistry, column, struct

DEFAULT = pb.MISSING_FEATURES_DEFAULT


@pytest.fixture
def features() -> FakeFeatures:
    return FakeFeatures(views={"users": ("total", "seen")}, keys={"users": ("user_id",)})


@pytest.fixture
def registry() -> FakeRegistry:
    made = FakeRegistry()
    inputs = [column("amount"), column("total", "long"), column("seen", "datetime")]
    made.add("m", 1, inputs, feature_refs=["users:total", "users:seen"])
    made.add("m", 2, inputs)
    return made


async def check(
    registry: FakeRegistry, features: FakeFeatures, missing: int = DEFAULT, version: int = 1, **defaults: object
) -> list[tuple[str, str]]:
    """What is wrong: the fields and the first words about each."""
    policy = pb.FeaturePolicy(missing=missing, defaults=struct(defaults))  # type: ignore[arg-type]  # an enum's number
    try:
        await PolicyChecker(registry=registry, reader=features).check("m", version, policy)
    except PlatformError as error:
        if error.reason_name != "FEATURE_POLICY_INVALID":
            raise
        return [(each.field.removeprefix("feature_policy."), each.description) for each in error.violations]
    return []


async def test_defaults_of_features_are_taken(registry: FakeRegistry, features: FakeFeatures) -> None:
    """Defaults that are of the columns' types, as JSON writes these, are fine."""
    assert await check(registry, features, total=3, seen="2024-01-01T00:00:00Z") == []


async def test_everything_wrong_is_told_at_once(registry: FakeRegistry, features: FakeFeatures) -> None:
    """Defaults of no column, of a column that no feature supplies, of another type, and null."""
    told = await check(registry, features, amount=1, height=2, total=0.5, seen=None)

    assert told == [
        ("defaults.amount", "is no feature that the version was trained on"),
        ("defaults.height", "is no column of the model"),
        ("defaults.seen", "must not be null; leave it out"),
        ("defaults.total", "is no value of its column (long): expected a whole number, got one with a fraction"),
    ]


async def test_a_version_without_features_takes_no_defaults(registry: FakeRegistry, features: FakeFeatures) -> None:
    """If nothing is looked up, nothing can be missing."""
    assert await check(registry, features, version=2, total=3) == [
        ("defaults.total", "is no feature that the version was trained on")
    ]


async def test_a_feature_store_that_is_down_keeps_nobody_from_deploying(registry: FakeRegistry, features: FakeFeatures) -> None:
    """Then only the signature is looked at."""
    features.down = True

    assert await check(registry, features, amount=1) == []
    assert [field for field, _ in await check(registry, features, height=1)] == ["defaults.height"]


@pytest.mark.parametrize("missing", [0, pb.MISSING_FEATURES_FAIL, pb.MISSING_FEATURES_PROCEED])
async def test_defaults_without_the_policy_to_use_them_are_refused(
    registry: FakeRegistry, features: FakeFeatures, missing: int
) -> None:
    """Whoever gives defaults means them to be used."""
    assert ("defaults", "are used with MISSING_FEATURES_DEFAULT only") in await check(registry, features, missing, total=1)


async def test_the_policy_to_use_defaults_without_any_is_refused(registry: FakeRegistry, features: FakeFeatures) -> None:
    """Whoever asks for defaults must give some."""
    assert await check(registry, features) == [("defaults", "must not be empty with MISSING_FEATURES_DEFAULT")]


async def test_going_on_without_what_the_model_needs_is_refused(registry: FakeRegistry, features: FakeFeatures) -> None:
    """A model that takes null for none of its features cannot go on without one; with one optional feature it can."""
    proceed = pb.MISSING_FEATURES_PROCEED
    inputs = [column("amount"), column("total", "long", required=False), column("seen", "datetime")]
    registry.add("m", 3, inputs, feature_refs=["users:total", "users:seen"])

    assert await check(registry, features, proceed) == [
        ("missing", "has no effect: the model takes no null for total, seen"),
    ]
    assert await check(registry, features, proceed, version=2) == []
    assert await check(registry, features, proceed, version=3) == []


@pytest.mark.parametrize(
    ("columns", "candidates"),
    [
        (["x"], "a:x,b:x"),
        (["a__x", "x"], "a:x,b:x"),
        (["x", "y"], "a:x,b:x"),
        (["a__x", "b__x"], ""),
        (["a__x", "b__x", "x"], ""),  # which is neither, so callers send it
        (["a__x", "y"], ""),
    ],
)
async def test_a_column_that_may_be_either_of_two_features_is_refused(
    registry: FakeRegistry, columns: list[str], candidates: str
) -> None:
    """Both are named; columns that tell the view are fine."""
    store = FakeFeatures(views={"a": ("x", "y"), "b": ("x",)}, keys={"a": ("k",), "b": ("k",)})
    registry.add("m", 3, [column(name) for name in columns], feature_refs=["a:x", "a:y", "b:x"])
    checked = PolicyChecker(registry=registry, reader=store).check("m", 3, pb.FeaturePolicy())
    if not candidates:
        await checked
        return
    with refused("FEATURE_AMBIGUOUS") as error:
        await checked
    assert error.value.metadata == {"column": "x", "features": candidates}
    assert "a:x, b:x" in error.value.message
    assert "a__x or b__x" in error.value.remedy
