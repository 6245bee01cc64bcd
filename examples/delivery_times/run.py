"""Brings the delivery project to a running platform: data, features, pipeline, model and predictions, all through the client.

Run from the project's root as `python -m examples.delivery_times.run`, with ML_PLATFORM_API_URL, ML_PLATFORM_API_KEY and
ML_PLATFORM_STATE set. The stack must have this example's `dags` folder, as `make up` gives it.
"""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from examples.delivery_times import generate
from ml_platform import Entity, MLPlatform, MLPlatformError, Prediction

MODEL = "delivery_times"
PIPELINE = "delivery_times_training"
COURIER = Entity("courier", "courier_id", "string")
RESTAURANT = Entity("restaurant", "restaurant_id", "int64")
ORDER = {
    "courier_id": "courier_7",
    "restaurant_id": 3,
    "distance_km": 3.2,
    "items": 2,
    "vehicle": "scooter",
    "is_raining": False,
}
# What the kitchen says now, in place of the average that the feature store has.
BUSY_KITCHEN = {"restaurant_stats__average_preparation_minutes": 30.0}


@dataclass(frozen=True)
class Outcome:
    """What came of it: the run that trained, the version that answers, and what it says."""

    run_id: str
    version: int
    runtime: str
    usual: Prediction
    busy: Prediction


def main() -> int:
    """Do all of it and return the exit status."""
    try:
        with MLPlatform() as platform:
            outcome = run(platform, Path(os.environ["ML_PLATFORM_STATE"]) / "data" / "delivery_times")
    except MLPlatformError as error:
        print(f"It went wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    print(f"version {outcome.version} answers from {outcome.runtime}")
    print(f"usually: {outcome.usual.prediction:.0f} minutes; with a busy kitchen: {outcome.busy.prediction:.0f} minutes")
    for feature in outcome.busy.features:
        print(f"  {feature.feature_view}:{feature.name} = {feature.value} ({feature.status})")
    return 0


def run(platform: MLPlatform, folder: Path, *, model: str = MODEL) -> Outcome:
    """Go from data in a folder to predictions in staging."""
    now = datetime.now(UTC)
    files = generate.write(folder, now.date())
    register_features(platform, files)
    platform.materialize_features(["courier_stats", "restaurant_stats"], generate.FIRST_DAY, now)
    run_id = train(platform, files)
    version = platform.register_model(run_id=run_id, name=model, description="Minutes from order to eater.").version
    deployment = platform.deploy_model(model, version, "staging", reason="the first that answers", wait=True)
    return Outcome(
        run_id=run_id,
        version=version,
        runtime=deployment.runtime,
        usual=platform.predict(model, ORDER, environment="staging", include_features=True),
        busy=platform.predict(model, {**ORDER, **BUSY_KITCHEN}, environment="staging", include_features=True),
    )


def register_features(platform: MLPlatform, files: generate.Files) -> None:
    """Tell the platform of both views. Saying it again changes nothing."""
    platform.register_feature_view(
        "courier_stats",
        [COURIER],
        {"deliveries": "int64", "average_speed_kmh": "double", "rating": "double"},
        files.courier_stats,
        description="Averages over all deliveries of a courier, a snapshot a week.",
    )
    platform.register_feature_view(
        "restaurant_stats",
        [RESTAURANT],
        {"deliveries": "int64", "average_preparation_minutes": "double", "rating": "double"},
        files.restaurant_stats,
        description="Averages over all deliveries from a restaurant, a snapshot a week.",
    )


def train(platform: MLPlatform, files: generate.Files) -> str:
    """Train in an experiment of its own, tell how it goes, and return the best run."""
    experiment = platform.create_experiment(name=f"{MODEL}-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment.name, pipeline=PIPELINE, parameters={"deliveries": str(files.deliveries)})
    return job.wait(progress=True).best_run_id


if __name__ == "__main__":
    sys.exit(main())
