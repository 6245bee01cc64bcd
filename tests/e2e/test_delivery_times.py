"""A project of another domain, brought by RPC alone: two entities, a flavour that is not ONNX, a value sent for a stored one."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from examples.delivery_times import generate
from examples.delivery_times import run as delivery
from ml_platform import FeatureValue, InvalidArgument, MLPlatform, Prediction
from tests.support.stack import Stack

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def model_name() -> str:
    return f"delivery-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def outcome(platform: MLPlatform, stack: Stack, model_name: str) -> delivery.Outcome:
    return delivery.run(platform, stack.state / "data" / "delivery_times", model=model_name)


def used(prediction: Prediction) -> dict[str, FeatureValue]:
    return {f"{feature.feature_view}:{feature.name}": feature for feature in prediction.features}


def test_the_views_are_what_was_registered(platform: MLPlatform, outcome: delivery.Outcome) -> None:
    """Both views are known with their entity and the types of its key, and are filled up to now."""
    courier, restaurant = (platform.get_feature_view(name) for name in ("courier_stats", "restaurant_stats"))
    assert [(entity.name, entity.join_key, entity.value_type) for entity in courier.entities] == [
        ("courier", "courier_id", "string")
    ]
    assert [(entity.name, entity.join_key, entity.value_type) for entity in restaurant.entities] == [
        ("restaurant", "restaurant_id", "int64")
    ]
    assert courier.materialized_until is not None
    assert restaurant.materialized_until is not None


def test_the_run_learnt_something_and_knows_its_job(platform: MLPlatform, outcome: delivery.Outcome) -> None:
    """The model is far better than always saying the mean, and its run is tagged with the job that made it."""
    run = platform.get_run(outcome.run_id)
    assert run.metrics["mae"] < 0.5 * run.metrics["mae_of_the_mean"]
    assert run.metrics["r2"] > 0.7
    assert run.job_id
    assert platform.get_training_job(run.job_id)["pipeline"] == delivery.PIPELINE


def test_the_version_knows_its_features_without_a_feature_service(
    platform: MLPlatform, outcome: delivery.Outcome, model_name: str
) -> None:
    """Feast noted single features on the run, and the version keeps them; its flavour is scikit-learn's."""
    version = platform.get_model_version(model_name, outcome.version)
    assert version.feature_service == ""
    assert set(version.feature_refs) >= {"courier_stats:rating", "restaurant_stats:rating"}
    assert "sklearn" in version.flavors
    assert "onnx" not in version.flavors
    assert outcome.runtime == "bentoml"


def test_features_of_both_entities_are_looked_up(outcome: delivery.Outcome) -> None:
    """The caller sends facts and two keys; the features of both entities are looked up, two of which share a name."""
    features = used(outcome.usual)
    assert {name: feature.status for name, feature in features.items()} == dict.fromkeys(
        (
            "courier_stats:deliveries",
            "courier_stats:average_speed_kmh",
            "courier_stats:rating",
            "restaurant_stats:average_preparation_minutes",
            "restaurant_stats:rating",
        ),
        "present",
    )
    assert features["courier_stats:rating"].value != features["restaurant_stats:rating"].value


def test_a_number_comes_out(outcome: delivery.Outcome) -> None:
    """A regression gives a number of minutes that a delivery may take, and no probability."""
    assert 5 < outcome.usual.prediction < 60
    assert outcome.usual.probability is None


def test_what_the_kitchen_says_wins_over_its_average(outcome: delivery.Outcome) -> None:
    """A value sent under the column's full name replaces the stored one, and the minutes follow it."""
    replaced = used(outcome.busy)["restaurant_stats:average_preparation_minutes"]
    assert (replaced.value, replaced.status) == (30.0, "from_request")
    assert outcome.busy.prediction > outcome.usual.prediction + 5


@pytest.mark.parametrize("key", ["courier_id", "restaurant_id"])
def test_a_missing_key_is_named(platform: MLPlatform, outcome: delivery.Outcome, model_name: str, key: str) -> None:
    """Without one of the two keys there is nothing to look up, and the error says which is missing."""
    order: dict[str, Any] = {name: value for name, value in delivery.ORDER.items() if name != key}
    with pytest.raises(InvalidArgument) as caught:
        platform.predict(model_name, order, environment="staging")
    assert caught.value.reason == "INPUT_MISSING"
    assert f"inputs.{key}" in [violation.field for violation in caught.value.violations]


def test_all_of_it_can_be_said_again(platform: MLPlatform, stack: Stack, outcome: delivery.Outcome) -> None:
    """Registering the same views again changes nothing."""
    before = platform.get_feature_view("courier_stats").update_time
    folder = (stack.state / "data" / "delivery_times").resolve()
    files = generate.Files(*(folder / f"{name}.parquet" for name in generate.Files._fields))
    delivery.register_features(platform, files)
    assert platform.get_feature_view("courier_stats").update_time == before
