"""What callers see while parts of the real stack go away and come back. These tests disturb the stack, and leave it well."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import ml_platform
from ml_platform import MLPlatform
from tests.e2e.test_the_day import TRANSACTION
from tests.support.day import Deployed
from tests.support.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

PATIENCE = 120.0


@pytest.fixture
def impatient(stack: Stack) -> Iterator[MLPlatform]:
    """A client that does not try again, so that a failure is seen as it is."""
    with MLPlatform(api_url=stack.api_url, api_key=stack.api_key).with_options(retries=0) as client:
        yield client


def wait_for_health(stack: Stack, service: str, expected: str) -> None:
    """Follow the standard health service until it says what is expected."""
    with grpc.insecure_channel(stack.target) as channel:
        request = health_pb2.HealthCheckRequest(service=f"ml_platform.v1.{service}")
        watch = health_pb2_grpc.HealthStub(channel).Watch(request, timeout=PATIENCE, wait_for_ready=True)
        for answer in watch:
            if health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status) == expected:
                watch.cancel()
                return
    pytest.fail(f"{service} never became {expected}")


def test_a_watch_survives_a_restart_of_the_server(platform: MLPlatform, stack: Stack) -> None:
    """A watcher whose server is restarted in the middle hears the rest of the story, with numbers that still grow."""
    experiment = platform.create_experiment(name=f"restart-{uuid.uuid4().hex[:8]}")
    job = platform.train_model(experiment_name=experiment.name, data_start_date="2024-01-01", data_end_date="2024-01-31")
    restart = threading.Thread(target=stack.restart, args=("server",))
    events = []
    for event in job.watch():
        events.append(event)
        if event.job.state == "running" and restart.ident is None:
            restart.start()
    assert restart.ident is not None, "the job ended before it was seen running"
    restart.join()
    assert [event.event for event in events].count("terminal") == 1
    assert (events[-1].event, events[-1].job.state) == ("terminal", "success")
    sequences = [event.sequence for event in events]
    assert sequences == sorted(set(sequences))


def test_a_server_without_mlflow_serves_what_it_can_and_recovers(
    platform: MLPlatform, impatient: MLPlatform, deployed: Deployed, stack: Stack
) -> None:
    """A server that starts while MLflow is down says so, keeps predicting, and serves experiments when MLflow is back."""
    assert platform.predict(deployed.model_name, TRANSACTION, environment="staging").model_version == deployed.version
    stack.stop("mlflow")
    stack.stop("server")
    # Comes back when the server serves everything, which it can only when MLflow is there again.
    restart = threading.Thread(target=stack.start, args=("server",))
    restart.start()
    try:
        wait_for_health(stack, "ExperimentService", "NOT_SERVING")
        with pytest.raises(ml_platform.Unavailable) as caught:
            impatient.list_experiments()
        assert caught.value.reason == "BACKEND_UNAVAILABLE"
        assert caught.value.retry_after is not None
        told = {backend.name: backend for backend in platform.health().backends}
        assert (told["mlflow"].status, told["store"].status) == ("unhealthy", "healthy")
        assert told["mlflow"].last_error
        wait_for_health(stack, "PredictionService", "SERVING")
        assert platform.predict(deployed.model_name, TRANSACTION, environment="staging").model_version == deployed.version
    finally:
        stack.start("mlflow")
        restart.join()
    wait_for_health(stack, "ExperimentService", "SERVING")
    assert len(platform.list_experiments()) >= 1


def test_predictions_say_that_the_feature_store_is_away_and_come_back_with_it(
    platform: MLPlatform, impatient: MLPlatform, deployed: Deployed, stack: Stack
) -> None:
    """Without the online store a prediction that needs it is UNAVAILABLE, not wrong; values are there again after its restart."""
    stack.stop("valkey")
    try:
        with pytest.raises(ml_platform.Unavailable) as caught:
            impatient.predict(deployed.model_name, TRANSACTION, environment="staging")
        assert caught.value.reason == "BACKEND_UNAVAILABLE"
    finally:
        stack.start("valkey")
    wait_for_health(stack, "FeatureService", "SERVING")
    reply = platform.predict(deployed.model_name, TRANSACTION, environment="staging", include_features=True)
    assert "present" in {feature.status for feature in reply.features} <= {"present", "from_request"}
