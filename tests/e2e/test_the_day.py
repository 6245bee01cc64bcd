"""A data scientist's whole day through the client, on MLflow, Airflow, Feast and BentoML as they really are."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ml_platform import MLPlatform
from tests.support.day import Deployed, Trained

pytestmark = pytest.mark.stack

TRANSACTION = {
    "user_id": "user_1",
    "amount": 950.0,
    "merchant_category": "electronics",
    "is_international": True,
    "hour_of_day": 3,
}


def test_an_experiment_is_created_with_its_tags(platform: MLPlatform, experiment: Any) -> None:
    """A new experiment is told with an id, and is found again with the tags it was given."""
    assert experiment.experiment_id
    assert experiment.status == "created"
    found = platform.get_experiment(experiment.experiment_id)
    assert found.tags == {"test": "true"}
    assert experiment.name in [each.name for each in platform.list_experiments()]


def test_a_watch_tells_the_whole_story(trained: Trained) -> None:
    """A watch begins with a snapshot, shows tasks running, and ends with one terminal message; its numbers grow."""
    kinds = [event.event for event in trained.events]
    assert kinds[0] == "snapshot"
    assert kinds[-1] == "terminal"
    assert kinds.count("terminal") == 1
    assert "change" in kinds
    sequences = [event.sequence for event in trained.events]
    assert sequences == sorted(set(sequences))
    states = {task.state for event in trained.events if event.job for task in event.job.tasks}
    assert {"running", "success"} <= states


def test_a_finished_job_knows_its_runs_and_its_best_run(platform: MLPlatform, trained: Trained, experiment: Any) -> None:
    """The job's runs are found without the pipeline knowing of the platform, and the best of them has the metrics."""
    status = platform.get_training_job_status(trained.job.job_id)
    assert status["status"] == "success"
    runs = platform.get_experiment_runs(experiment.experiment_id)
    assert trained.job.best_run_id in [run["run_id"] for run in runs]
    best = platform.get_run(trained.job.best_run_id)
    assert best["job_id"] == trained.job.job_id
    assert best["metrics"]["accuracy"] > 0.8
    assert best["metrics"]["roc_auc"] > 0.7
    assert best["params"]["n_estimators"] == "30"


def test_runs_are_filtered_and_ordered(platform: MLPlatform, trained: Trained, experiment: Any) -> None:
    """A filter that nothing meets gives nothing; the run is found by one that it meets."""
    assert list(platform.get_experiment_runs(experiment.experiment_id, filter="metrics.accuracy > 2")) == []
    found = platform.get_experiment_runs(
        experiment.experiment_id, filter="metrics.accuracy > 0.5", order_by="metrics.accuracy DESC"
    )
    assert found[0]["run_id"] == trained.job.best_run_id


def test_a_registered_version_knows_its_signature_and_features(platform: MLPlatform, registered: Any) -> None:
    """A version carries the signature of its model and the features that its run used, without being told."""
    assert registered.version == 1
    assert registered.status == "registered"
    version = platform.get_model_version(registered.name, registered.version)
    assert {"amount", "is_international"} <= {column.name for column in version.signature.inputs}
    assert "onnx" in version.flavors
    assert version.feature_service or version.feature_refs
    assert version.description == "trained in a test"


def test_a_deployment_moves_the_stage(platform: MLPlatform, deployed: Deployed) -> None:
    """A deployed version is in Staging, and the deployment keeps who asked and why."""
    found = next(model for model in platform.list_models() if model.name == deployed.model_name)
    assert (found.version, found.stage) == (deployed.version, "Staging")
    deployment = platform.get_deployment(deployed.deployment.deployment_id)
    assert deployment["state"] == "active"
    assert deployment["reason"] == "the day goes on"
    assert deployment["actor"]
    version = platform.get_model_version(deployed.model_name, deployed.version)
    assert "staging" in version.aliases


def test_online_features_tell_value_status_and_time(platform: MLPlatform) -> None:
    """The example's features are in the online store after `make up`, and an entity nobody knows is told as such."""
    known = platform.get_online_features(entity_id="user_1", feature_views=["user_features:total_transactions"])
    assert known["features"]["total_transactions"] > 0
    assert known.statuses["total_transactions"] == "present"
    assert known.event_times["total_transactions"] is not None
    unknown = platform.get_online_features(entity_id="nobody", feature_views=["user_features:total_transactions"])
    assert unknown["features"]["total_transactions"] is None
    assert unknown.statuses["total_transactions"] == "not_found"


def test_a_prediction_is_enriched_and_says_where_it_came_from(platform: MLPlatform, deployed: Deployed) -> None:
    """A prediction needs only what the caller knows; the rest comes from the feature store, and the reply says so."""
    reply = platform.predict(deployed.model_name, TRANSACTION, environment="staging", include_features=True)
    assert reply.model_version == deployed.version
    assert reply.deployment_id == deployed.deployment.deployment_id
    assert reply.prediction in (0, 1)
    assert 0.0 <= reply.probability <= 1.0
    assert reply.prediction_id
    used = {feature.name: feature for feature in reply.features}
    assert used["avg_transaction_amount"].status == "present"


def test_what_the_caller_sends_wins_over_the_store(platform: MLPlatform, deployed: Deployed) -> None:
    """A feature among the inputs is used as it is, and the reply says that it came with the request."""
    reply = platform.predict(
        deployed.model_name, {**TRANSACTION, "avg_transaction_amount": 1.5}, environment="staging", include_features=True
    )
    used = {feature.name: feature for feature in reply.features}
    assert (used["avg_transaction_amount"].status, used["avg_transaction_amount"].value) == ("from_request", 1.5)
    assert used["total_transactions"].status == "present"


def test_a_risky_transaction_scores_higher_than_a_usual_one(platform: MLPlatform, deployed: Deployed) -> None:
    """The model has learnt what the data show: a large foreign purchase at night is more suspicious than a small one at noon."""
    usual = {**TRANSACTION, "amount": 12.0, "merchant_category": "grocery", "is_international": False, "hour_of_day": 12}
    risky = platform.predict(deployed.model_name, TRANSACTION, environment="staging")
    calm = platform.predict(deployed.model_name, usual, environment="staging")
    assert risky.probability > calm.probability


def test_features_are_materialized_as_a_job(platform: MLPlatform) -> None:
    """Materialization runs in the pipeline engine and is waited for."""
    done = platform.materialize_features(feature_view="user_features", start_date="2024-01-01", end_date="2024-01-31")
    assert done["status"] == "materialized"


def test_a_production_deployment_archives_the_version_before_it(platform: MLPlatform, trained: Trained) -> None:
    """When version 2 goes to production, version 1 is archived and the history shows both."""
    name = f"fraud-{uuid.uuid4().hex[:8]}"
    for _ in range(2):
        model = platform.register_model(run_id=trained.job.best_run_id, name=name)
        platform.deploy_model(model_name=name, version=model.version, environment="production", wait=True)
    history = platform.list_deployments(model_name=name)
    assert [(each["version"], each["state"]) for each in history] == [(2, "active"), (1, "archived")]
    stages = {each.version: each.stage for each in platform.list_model_versions(name)}
    assert stages == {1: "Archived", 2: "Production"}
    assert platform.predict(name, TRANSACTION, environment="production").model_version == 2


def test_the_platform_counts_what_it_holds(platform: MLPlatform, deployed: Deployed, trained: Trained) -> None:
    """Metrics count what the lists hold, and every backend is healthy."""
    platform.create_experiment(name=f"counted-{uuid.uuid4().hex[:8]}")
    metrics = platform.metrics()
    day_ago = datetime.now(UTC) - timedelta(hours=24)
    recent = [job for job in platform.list_training_jobs(kind="training") if job["create_time"] > day_ago]
    assert metrics.experiments == len(platform.list_experiments()) > 0
    assert metrics.models == len(platform.list_models()) > 0
    assert metrics.active_deployments == len(platform.list_deployments(state="active")) > 0
    assert metrics.training_jobs_last_24h == len(recent) > 0
    health = platform.health()
    assert {each.name: each.status for each in health.backends} == dict.fromkeys(
        ("mlflow", "feast", "airflow", "bentoml", "store"), "healthy"
    )
    assert platform.whoami().principal
