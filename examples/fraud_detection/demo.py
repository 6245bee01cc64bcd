"""A data scientist's day through the client, on the real stack; `make demo` runs it.

Run from the project's root as `python -m examples.fraud_detection.demo`, with ML_PLATFORM_API_URL and ML_PLATFORM_API_KEY set.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime

from ml_platform import Job, JobUpdate, MLPlatform, MLPlatformError, Task

MODEL = "fraud_detection"
USER = "user_1"
FEATURES = ["total_transactions", "avg_transaction_amount", "transactions_30d", "international_ratio"]
USUAL = {"user_id": USER, "amount": 14.5, "merchant_category": "grocery", "is_international": False, "hour_of_day": 12}
STRANGE = {"user_id": USER, "amount": 980.0, "merchant_category": "electronics", "is_international": True, "hour_of_day": 3}
TOLD = ["accuracy", "roc_auc", "average_precision", "precision", "recall"]
WIDTH = 24


class DemoError(Exception):
    """What the day showed is not what it should be."""


def main() -> int:
    """Run the day and return the exit status."""
    started = time.monotonic()
    try:
        with MLPlatform() as platform:
            day(platform)
    except (MLPlatformError, DemoError) as error:
        print(f"\nThe day went wrong: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What was submitted goes on as long as the stack runs.", file=sys.stderr)
        return 130
    print(f"\nThe whole day took {time.monotonic() - started:.0f} s.")
    return 0


def day(platform: MLPlatform) -> None:
    """From nothing to a prediction."""
    step(1, f"Ask the platform at {platform.api_url} how it is")
    check_health(platform)

    name = f"fraud-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    step(2, "Create an experiment")
    experiment = platform.create_experiment(name=name, tags={"made_by": "demo"})
    tell(experiment.name, f"id {experiment.experiment_id}, {experiment.status}")

    step(3, "Train on Airflow with the data of January to March 2024, and follow the job live")
    job = platform.train_model(
        experiment_name=name, data_start_date="2024-01-01", data_end_date="2024-03-31", parameters={"n_estimators": 50}
    )
    tell(job.job_id, f"{job.status} to the pipeline {job.dag_id}")
    follow(job.watch()).raise_if_failed()

    step(4, "Find the best run")
    best = platform.get_run(job.best_run_id)
    tell(best.run_id[:8], values({metric: best.metrics[metric] for metric in TOLD if metric in best.metrics}))
    curve = [f"{point.value:.3f}" for point in platform.get_metric_history(best.run_id, "training_loss")]
    tell("training_loss", " ".join(curve))

    step(5, "Register its model")
    model = platform.register_model(run_id=best.run_id, name=MODEL, description=f"Made by the demo in {name}.")
    tell(f"{model.name} {model.version}", f"{', '.join(model.flavors)}; features of {model.feature_service}")

    step(6, "Deploy it to staging, and follow the checks live")
    deployment = platform.deploy_model(model.name, model.version, "staging", reason="the demo's best run")
    follow(platform.watch_training_job(deployment.job_id)).raise_if_failed()
    deployment = platform.wait_for_deployment(deployment.deployment_id, timeout=60)
    tell("staging", f"version {deployment.version} is {deployment.state}, served by {deployment.runtime}")

    step(7, f"Look up what the feature store knows of {USER}")
    online = platform.get_online_features(entity_id=USER, feature_views=[f"user_features:{feature}" for feature in FEATURES])
    for feature, value in online.features.items():
        if value is None:
            raise DemoError(f"The feature store knows no {feature} of {USER} ({online.statuses[feature]}).")
        tell(feature, f"{value:g} ({online.statuses[feature]}, as of {online.event_times[feature]:%Y-%m-%d})")

    step(8, f"Ask for the probability that two payments of {USER} are frauds")
    predict(platform, model.name)
    links()


def check_health(platform: MLPlatform) -> None:
    """Show each backend, and stop if one is not well."""
    health = platform.health()
    for backend in health.backends:
        well = backend.status == "healthy"
        tell(
            backend.name,
            f"healthy, answers in {backend.latency * 1000:.0f} ms" if well else f"{backend.status}: {backend.last_error}",
        )
    sick = [backend.name for backend in health.backends if backend.status != "healthy"]
    if sick:
        raise DemoError(f"{', '.join(sick)} cannot be used; `make status` and `make logs` tell more.")


def predict(platform: MLPlatform, model: str) -> None:
    """A usual payment and a strange one; the caller sends what only it knows, the platform looks up the rest."""
    probabilities = []
    for name, payment in (("usual", USUAL), ("strange", STRANGE)):
        reply = platform.predict(model, payment, environment="staging", include_features=True)
        if reply.probability is None:
            raise DemoError("The model gave no probability.")
        probabilities.append(reply.probability)
        sent = {key: value for key, value in payment.items() if key != "user_id"}
        tell(name, f"{reply.probability:.1%} fraud: {values(sent)}")
    tell("looked up", values({feature.name: feature.value for feature in reply.features}))
    if probabilities[0] >= probabilities[1]:
        raise DemoError("The usual payment looks more like a fraud than the strange one.")


def follow(updates: Iterable[JobUpdate]) -> Job:
    """Print what changes in a job as it happens, and return how it ended."""
    began, tasks, metrics = time.monotonic(), dict[str, str](), dict[str, float]()
    for update in updates:
        clock = f"{time.monotonic() - began:5.1f} s"
        for task in update.job.tasks:
            if tasks.get(task.task_id, "pending") != task.state:
                tell(clock, f"{task.task_id} {task.state}{took(task)}")
            tasks[task.task_id] = task.state
        moved = {name: value for name, value in update.job.metrics.items() if metrics.get(name) != value}
        if moved:
            tell(clock, f"  {values(moved)}")
        metrics.update(moved)
    tell(clock, f"job {update.job.state}")
    return update.job


def took(task: Task) -> str:
    """How long a task took, once it has ended."""
    if task.start_time is None or task.end_time is None:
        return ""
    return f" after {(task.end_time - task.start_time).total_seconds():.1f} s"


def links() -> None:
    """Where to look further, as long as the stack runs."""
    places = {"MLflow": os.environ.get("MLFLOW_TRACKING_URI"), "Airflow": os.environ.get("AIRFLOW_API_URL")}
    known = [f"{name} {address}" for name, address in places.items() if address]
    if known:
        print(f"\nWhile the stack runs (`make up`), look around: {', '.join(known)}")


def values(named: Mapping[str, object]) -> str:
    """Names and numbers in one line."""
    return ", ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in named.items())


def step(number: int, title: str) -> None:
    """The heading of a step."""
    print(f"\n{number}. {title}", flush=True)


def tell(what: str, text: str) -> None:
    """One line of a step."""
    print(f"   {what:<{WIDTH}} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
