"""DeployModel from outside: the feature policy is checked, kept and told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from ml_platform.v1 import deployments_pb2 as pb
from ml_platform.v1 import deployments_pb2_grpc
from ml_platform_server.services.deployments import DeploymentService
from ml_platform_server.serving.features.policy_check import PolicyChecker
from tests.support.errors import rich_error
from tests.support.frame import Frame, opened_database, running_frame
from tests.support.jobs_house import House
from tests.support.serving import FakeFeatures, FakeRegistry, column, struct

SERVICE = pb.DESCRIPTOR.services_by_name["DeploymentService"]


@pytest.fixture
async def frame(tmp_path: Path) -> AsyncIterator[Frame]:
    """DeploymentService for a model that takes `amount`, which is sent, and `total`, a feature."""
    registry = FakeRegistry()
    registry.add("m", 1, [column("amount"), column("total")], feature_refs=["users:total"])
    features = FakeFeatures(views={"users": ("total",)}, keys={"users": ("user_id",)})
    (tmp_path / "jobs").mkdir()
    async with opened_database(tmp_path / "jobs") as database:
        house = House(database, check_policy=PolicyChecker(registry=registry, reader=features).check)
        async with running_frame(tmp_path, [(SERVICE, DeploymentService(deployments=house.deployments))]) as running:
            yield running


async def deploy(frame: Frame, policy: pb.FeaturePolicy | None) -> pb.Deployment:
    stub: Any = deployments_pb2_grpc.DeploymentServiceStub(frame.channel)
    request = pb.DeployModelRequest(model_name="m", version=1, environment="staging", feature_policy=policy)
    started = (await stub.DeployModel(request, metadata=frame.metadata, timeout=20)).deployment
    looked_up = pb.GetDeploymentRequest(deployment_id=started.deployment_id)
    found: pb.Deployment = (await stub.GetDeployment(looked_up, metadata=frame.metadata, timeout=20)).deployment
    assert found == started
    return found


async def test_a_policy_is_kept_with_its_deployment(frame: Frame) -> None:
    """What was asked for is what the history tells."""
    policy = pb.FeaturePolicy(missing=pb.MISSING_FEATURES_DEFAULT, stale=pb.STALE_FEATURES_FAIL, defaults=struct({"total": 1.5}))
    assert (await deploy(frame, policy)).feature_policy == policy


async def test_a_deployment_without_a_policy_tells_the_usual_one(frame: Frame) -> None:
    """What is left open is told as what it stands for."""
    usual = pb.FeaturePolicy(missing=pb.MISSING_FEATURES_NULL_OR_FAIL, stale=pb.STALE_FEATURES_USE)
    assert (await deploy(frame, None)).feature_policy == usual


async def test_a_policy_that_does_not_fit_the_model_is_refused(frame: Frame) -> None:
    """FEATURE_POLICY_INVALID names the default, and no deployment is left behind."""
    policy = pb.FeaturePolicy(missing=pb.MISSING_FEATURES_DEFAULT, defaults=struct({"amount": 1, "total": "much"}))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await deploy(frame, policy)
    error = rich_error(caught.value)
    assert (caught.value.code(), error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FEATURE_POLICY_INVALID")
    assert error.fields == ("feature_policy.defaults.amount", "feature_policy.defaults.total")
    stub: Any = deployments_pb2_grpc.DeploymentServiceStub(frame.channel)
    history = await stub.ListDeployments(pb.ListDeploymentsRequest(), metadata=frame.metadata, timeout=20)
    assert list(history.deployments) == []


async def test_a_policy_unknown_to_the_contract_is_refused(frame: Frame) -> None:
    """A number that no enum of the contract has is INVALID_FIELDS."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await deploy(frame, pb.FeaturePolicy(missing=99))  # type: ignore[arg-type]  # that is the point
    assert rich_error(caught.value).reason == "INVALID_FIELDS"
