"""The main errors of every RPC, through the generated stubs, against the real stack: a code, a reason, a remedy, each time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import struct_pb2, timestamp_pb2

from ml_platform.v1 import (
    deployments_pb2,
    deployments_pb2_grpc,
    experiments_pb2,
    experiments_pb2_grpc,
    features_pb2,
    features_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    platform_pb2_grpc,
    predictions_pb2,
    predictions_pb2_grpc,
    training_pb2,
    training_pb2_grpc,
)
from tests.support.day import Deployed
from tests.support.errors import RichError, rich_error
from tests.support.stack import Stack

pytestmark = pytest.mark.stack

CreateExperiment = experiments_pb2.CreateExperimentRequest
ListRuns = experiments_pb2.ListRunsRequest


class Stubs:
    """Every stub of the contract, with the key in each call."""

    def __init__(self, channel: grpc.Channel, key: str | None) -> None:
        self.metadata = (("authorization", f"Bearer {key}"),) if key is not None else ()
        self.experiments = experiments_pb2_grpc.ExperimentServiceStub(channel)
        self.models = models_pb2_grpc.ModelServiceStub(channel)
        self.deployments = deployments_pb2_grpc.DeploymentServiceStub(channel)
        self.training = training_pb2_grpc.TrainingServiceStub(channel)
        self.jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self.features = features_pb2_grpc.FeatureServiceStub(channel)
        self.predictions = predictions_pb2_grpc.PredictionServiceStub(channel)
        self.platform = platform_pb2_grpc.PlatformServiceStub(channel)

    def fail(self, method: Callable[..., Any], request: Any) -> RichError:
        """Call, expect a failure, and read it."""
        with pytest.raises(grpc.RpcError) as caught:
            self._exhaust(method(request, metadata=self.metadata, timeout=30))
        return rich_error(caught.value)

    @staticmethod
    def _exhaust(answer: Any) -> None:
        """Read a stream to its end; there is nothing to read in a message."""
        if not hasattr(answer, "DESCRIPTOR"):
            list(answer)


@pytest.fixture
def stubs(channel: grpc.Channel, stack: Stack) -> Stubs:
    """Stubs with a key that has every scope."""
    return Stubs(channel, stack.api_key)


def struct(**values: Any) -> struct_pb2.Struct:
    """A Struct of these values."""
    made = struct_pb2.Struct()
    made.update(values)
    return made


def time(seconds: int) -> timestamp_pb2.Timestamp:
    """A timestamp so many seconds after 1970."""
    return timestamp_pb2.Timestamp(seconds=seconds)


# service, method, request, code, reason
TABLE: list[tuple[str, str, Any, str, str]] = [
    ("experiments", "CreateExperiment", experiments_pb2.CreateExperimentRequest(), "INVALID_ARGUMENT", "INVALID_FIELDS"),
    ("experiments", "CreateExperiment", experiments_pb2.CreateExperimentRequest(name="  "), "INVALID_ARGUMENT", "INVALID_FIELDS"),
    *(
        ("experiments", "CreateExperiment", request, "INVALID_ARGUMENT", "INVALID_FIELDS")
        for request in (
            *(CreateExperiment(name=name) for name in ("\u200b", "\u202e", "\ufeff", "\x1b", "fra\u200bud", "a\u00a0b")),
            *(CreateExperiment(name="never", tags={key: "x"}) for key in (" ", "", "\u200b", "a\u202eb")),
        )
    ),
    ("experiments", "GetExperiment", experiments_pb2.GetExperimentRequest(), "INVALID_ARGUMENT", "INVALID_FIELDS"),
    ("experiments", "GetExperiment", experiments_pb2.GetExperimentRequest(name="nope"), "NOT_FOUND", "EXPERIMENT_NOT_FOUND"),
    (
        "experiments",
        "GetExperiment",
        experiments_pb2.GetExperimentRequest(experiment_id="987654"),
        "NOT_FOUND",
        "EXPERIMENT_NOT_FOUND",
    ),
    (
        "experiments",
        "GetExperiment",
        experiments_pb2.GetExperimentRequest(experiment_id="not-a-number"),
        "NOT_FOUND",
        "EXPERIMENT_NOT_FOUND",
    ),
    (
        "experiments",
        "ListExperiments",
        experiments_pb2.ListExperimentsRequest(page_size=-1),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "experiments",
        "ListExperiments",
        experiments_pb2.ListExperimentsRequest(page_token="!!"),
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
    ),
    ("experiments", "ListRuns", experiments_pb2.ListRunsRequest(experiment_id="987654"), "NOT_FOUND", "EXPERIMENT_NOT_FOUND"),
    (
        "experiments",
        "ListRuns",
        experiments_pb2.ListRunsRequest(experiment_id="0", filter="a b c"),
        "INVALID_ARGUMENT",
        "FILTER_INVALID",
    ),
    (
        "experiments",
        "ListRuns",
        experiments_pb2.ListRunsRequest(experiment_id="0", order_by="x y z"),
        "INVALID_ARGUMENT",
        "FILTER_INVALID",
    ),
    ("experiments", "ListRuns", experiments_pb2.ListRunsRequest(experiment_id="9" * 40), "NOT_FOUND", "EXPERIMENT_NOT_FOUND"),
    *(
        ("experiments", "ListRuns", request, "INVALID_ARGUMENT", "FILTER_INVALID")
        for request in (
            ListRuns(experiment_id="0", filter="attributes. tags. 'x' ( run_id ("),
            ListRuns(experiment_id="0", filter="attributes.start_time > 99999999999999999999999"),
            ListRuns(experiment_id="0", order_by="metrics.m, metrics.m"),
        )
    ),
    (
        "experiments",
        "ListRuns",
        experiments_pb2.ListRunsRequest(experiment_id="0", page_token="A" * 100_000),
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
    ),
    ("experiments", "GetRun", experiments_pb2.GetRunRequest(run_id="f" * 32), "NOT_FOUND", "RUN_NOT_FOUND"),
    ("experiments", "GetRun", experiments_pb2.GetRunRequest(run_id="../etc"), "NOT_FOUND", "RUN_NOT_FOUND"),
    (
        "experiments",
        "GetMetricHistory",
        experiments_pb2.GetMetricHistoryRequest(run_id="f" * 32, metric_key="accuracy"),
        "NOT_FOUND",
        "RUN_NOT_FOUND",
    ),
    ("models", "RegisterModel", models_pb2.RegisterModelRequest(run_id="f" * 32, model_name="m"), "NOT_FOUND", "RUN_NOT_FOUND"),
    (
        "models",
        "RegisterModel",
        models_pb2.RegisterModelRequest(run_id="r", model_name="a/b"),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    ("models", "GetModel", models_pb2.GetModelRequest(model_name="nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    ("models", "ListModelVersions", models_pb2.ListModelVersionsRequest(model_name="nope"), "NOT_FOUND", "MODEL_NOT_FOUND"),
    (
        "models",
        "GetModelVersion",
        models_pb2.GetModelVersionRequest(model_name="nope", version=1),
        "NOT_FOUND",
        "MODEL_NOT_FOUND",
    ),
    ("models", "GetModelVersion", models_pb2.GetModelVersionRequest(model_name="m"), "INVALID_ARGUMENT", "INVALID_FIELDS"),
    ("models", "ListModels", models_pb2.ListModelsRequest(page_token="!!"), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
    ("models", "ListModels", models_pb2.ListModelsRequest(page_token="A" * 100_000), "INVALID_ARGUMENT", "PAGE_TOKEN_INVALID"),
    (
        "deployments",
        "DeployModel",
        deployments_pb2.DeployModelRequest(model_name="nope", version=1, environment="staging"),
        "NOT_FOUND",
        "MODEL_NOT_FOUND",
    ),
    (
        "deployments",
        "DeployModel",
        deployments_pb2.DeployModelRequest(model_name="m", version=1),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "deployments",
        "GetDeployment",
        deployments_pb2.GetDeploymentRequest(deployment_id="nope"),
        "NOT_FOUND",
        "DEPLOYMENT_NOT_FOUND",
    ),
    (
        "deployments",
        "ListDeployments",
        deployments_pb2.ListDeploymentsRequest(page_token="!!"),
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(experiment_name="nope"),
        "NOT_FOUND",
        "EXPERIMENT_NOT_FOUND",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(experiment_name="Default", pipeline="nope"),
        "NOT_FOUND",
        "PIPELINE_NOT_FOUND",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(experiment_name="Default", pipeline="tests_broken"),
        "FAILED_PRECONDITION",
        "PIPELINE_BROKEN",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(
            experiment_name="Default", data_start_date="2024-03-01", data_end_date="2024-02-01"
        ),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(experiment_name="Default", data_start_date="2024-02-30"),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "training",
        "SubmitTrainingJob",
        training_pb2.SubmitTrainingJobRequest(experiment_name="Default", parameters=struct(experiment_name="x")),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    *(
        (
            "training",
            "SubmitTrainingJob",
            training_pb2.SubmitTrainingJobRequest(experiment_name="Default", pipeline=pipeline),
            "PERMISSION_DENIED",
            "PIPELINE_NOT_ALLOWED",
        )
        for pipeline in ("model_deployment", "feature_materialization")
    ),
    *(
        (
            "training",
            "SubmitTrainingJob",
            training_pb2.SubmitTrainingJobRequest(
                experiment_name="Default", pipeline="tests_mapped", parameters=struct(**parameters)
            ),
            "INVALID_ARGUMENT",
            "INVALID_FIELDS",
        )
        for parameters in ({"count": 0}, {"count": "2"}, {"cuont": 2})
    ),
    ("jobs", "GetJob", jobs_pb2.GetJobRequest(job_id="nope"), "NOT_FOUND", "JOB_NOT_FOUND"),
    ("jobs", "WatchJob", jobs_pb2.WatchJobRequest(job_id="nope"), "NOT_FOUND", "JOB_NOT_FOUND"),
    (
        "jobs",
        "ListJobs",
        jobs_pb2.ListJobsRequest(page_token="!!"),
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
    ),
    ("features", "GetFeatureView", features_pb2.GetFeatureViewRequest(name="nope"), "NOT_FOUND", "FEATURE_VIEW_NOT_FOUND"),
    (
        "features",
        "ListFeatureViews",
        features_pb2.ListFeatureViewsRequest(page_token="!!"),
        "INVALID_ARGUMENT",
        "PAGE_TOKEN_INVALID",
    ),
    (
        "features",
        "RegisterFeatureView",
        features_pb2.RegisterFeatureViewRequest(feature_view=features_pb2.FeatureView(name="9 lives")),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "features",
        "MaterializeFeatures",
        features_pb2.MaterializeFeaturesRequest(feature_views=["nope"], start_time=time(1), end_time=time(2)),
        "NOT_FOUND",
        "FEATURE_VIEW_NOT_FOUND",
    ),
    (
        "features",
        "MaterializeFeatures",
        features_pb2.MaterializeFeaturesRequest(feature_views=["user_features"], start_time=time(2), end_time=time(1)),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "features",
        "PushFeatures",
        features_pb2.PushFeaturesRequest(feature_view="nope", rows=[features_pb2.FeatureRow(values=struct(a=1))]),
        "NOT_FOUND",
        "FEATURE_VIEW_NOT_FOUND",
    ),
    (
        "features",
        "PushFeatures",
        features_pb2.PushFeaturesRequest(
            feature_view="user_features", rows=[features_pb2.FeatureRow(values=struct(total_transactions=1))]
        ),
        "INVALID_ARGUMENT",
        "ENTITY_MISMATCH",
    ),
    (
        "features",
        "PushFeatures",
        features_pb2.PushFeaturesRequest(
            feature_view="user_features",
            rows=[features_pb2.FeatureRow(values=struct(user_id="user_1", total_transactions=1))],
        ),
        "INVALID_ARGUMENT",
        "INVALID_FIELDS",
    ),
    (
        "features",
        "GetOnlineFeatures",
        features_pb2.GetOnlineFeaturesRequest(features=["nope:x"], entities=[features_pb2.EntityKey(entity_id="user_1")]),
        "NOT_FOUND",
        "FEATURE_VIEW_NOT_FOUND",
    ),
    (
        "features",
        "GetOnlineFeatures",
        features_pb2.GetOnlineFeaturesRequest(
            features=["user_features:nope"], entities=[features_pb2.EntityKey(entity_id="user_1")]
        ),
        "NOT_FOUND",
        "FEATURE_NOT_FOUND",
    ),
    (
        "features",
        "GetOnlineFeatures",
        features_pb2.GetOnlineFeaturesRequest(
            features=["user_features"], entities=[features_pb2.EntityKey(keys=struct(merchant_id="user_1"))]
        ),
        "INVALID_ARGUMENT",
        "ENTITY_MISMATCH",
    ),
    (
        "predictions",
        "Predict",
        predictions_pb2.PredictRequest(model_name="nope", environment="staging"),
        "NOT_FOUND",
        "MODEL_NOT_FOUND",
    ),
    ("predictions", "Predict", predictions_pb2.PredictRequest(model_name="nope"), "INVALID_ARGUMENT", "INVALID_FIELDS"),
    *(
        (service, method, request_, "INVALID_ARGUMENT", "INVALID_FIELDS")
        for service, method, request_ in (
            ("predictions", "Predict", predictions_pb2.PredictRequest(model_name="nope", environment="moon")),
            ("deployments", "DeployModel", deployments_pb2.DeployModelRequest(model_name="nope", version=1, environment="moon")),
            ("deployments", "ListDeployments", deployments_pb2.ListDeploymentsRequest(environment="moon")),
        )
    ),
]


@pytest.mark.parametrize(
    ("service", "method", "request_", "code", "reason"), TABLE, ids=lambda value: value if isinstance(value, str) else ""
)
def test_bad_input_gets_its_code_and_reason(
    stubs: Stubs, service: str, method: str, request_: Any, code: str, reason: str
) -> None:
    """Each kind of bad input is answered with the code and reason that the contract promises, and a remedy."""
    assert stubs.fail(getattr(getattr(stubs, service), method), request_).brief == (code, reason)


def test_a_duplicate_experiment_is_refused(stubs: Stubs) -> None:
    """The second experiment of one name is refused, and the first stays."""
    request = experiments_pb2.CreateExperimentRequest(name=f"twice-{uuid.uuid4().hex[:8]}")
    stubs.experiments.CreateExperiment(request, metadata=stubs.metadata, timeout=30)
    assert stubs.fail(stubs.experiments.CreateExperiment, request).brief == ("ALREADY_EXISTS", "EXPERIMENT_EXISTS")


def test_a_repeat_with_the_same_request_id_gets_the_first_answer(stubs: Stubs) -> None:
    """A repeated call makes nothing new; the same id with other contents is refused."""
    name, request_id = f"once-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    request = experiments_pb2.CreateExperimentRequest(name=name, request_id=request_id)
    first = stubs.experiments.CreateExperiment(request, metadata=stubs.metadata, timeout=30)
    again = stubs.experiments.CreateExperiment(request, metadata=stubs.metadata, timeout=30)
    assert again == first
    other = experiments_pb2.CreateExperimentRequest(name=f"{name}-other", request_id=request_id)
    assert stubs.fail(stubs.experiments.CreateExperiment, other).brief == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


def test_a_version_that_does_not_exist_is_named(stubs: Stubs, deployed: Deployed) -> None:
    """A known model without the version asked for is told apart from an unknown model."""
    request = models_pb2.GetModelVersionRequest(model_name=deployed.model_name, version=99)
    assert stubs.fail(stubs.models.GetModelVersion, request).brief == ("NOT_FOUND", "MODEL_VERSION_NOT_FOUND")
    deploy = deployments_pb2.DeployModelRequest(model_name=deployed.model_name, version=99, environment="staging")
    assert stubs.fail(stubs.deployments.DeployModel, deploy).brief == ("NOT_FOUND", "MODEL_VERSION_NOT_FOUND")


def test_a_model_is_not_deployed_everywhere(stubs: Stubs, deployed: Deployed) -> None:
    """A model in staging does not answer in production."""
    request = predictions_pb2.PredictRequest(model_name=deployed.model_name, environment="production", inputs=struct(amount=1.0))
    assert stubs.fail(stubs.predictions.Predict, request).brief == ("FAILED_PRECONDITION", "MODEL_NOT_DEPLOYED")


def predict(deployed: Deployed, **changes: Any) -> predictions_pb2.PredictRequest:
    """A prediction request with some inputs changed, or left out where the change is None."""
    usual = {"user_id": "user_1", "amount": 10.0, "merchant_category": "grocery", "is_international": False, "hour_of_day": 9}
    inputs = {name: value for name, value in {**usual, **changes}.items() if value is not ...}
    return predictions_pb2.PredictRequest(model_name=deployed.model_name, environment="staging", inputs=struct(**inputs))


@pytest.mark.parametrize(
    ("changes", "code", "reason", "field"),
    [
        ({"amount": ...}, "INVALID_ARGUMENT", "INPUT_MISSING", "inputs.amount"),
        ({"user_id": ...}, "INVALID_ARGUMENT", "INPUT_MISSING", "inputs.user_id"),
        ({"amount": "a lot"}, "INVALID_ARGUMENT", "INPUT_INVALID", "inputs.amount"),
        ({"amount": True}, "INVALID_ARGUMENT", "INPUT_INVALID", "inputs.amount"),
        ({"user_id": "nobody"}, "FAILED_PRECONDITION", "FEATURE_MISSING", None),
    ],
)
def test_bad_inputs_are_named(
    stubs: Stubs, deployed: Deployed, changes: dict[str, Any], code: str, reason: str, field: str | None
) -> None:
    """A prediction that cannot be made says which input is at fault."""
    failure = stubs.fail(stubs.predictions.Predict, predict(deployed, **changes))
    assert failure.brief == (code, reason)
    if field:
        assert field in failure.fields


def test_no_key_wrong_key_and_wrong_scope_are_told_apart(channel: grpc.Channel, stack: Stack) -> None:
    """A call without a key, with a wrong key, and with a key that may do less each gets its own reason."""
    request = experiments_pb2.CreateExperimentRequest(name="never")
    narrow = stack.create_key("narrow", ["experiments:read"])
    expected = {
        None: ("UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        "mlp_wrong": ("UNAUTHENTICATED", "CREDENTIALS_INVALID"),
        stack.api_key[:-1] + ("a" if stack.api_key[-1] != "a" else "b"): ("UNAUTHENTICATED", "CREDENTIALS_INVALID"),
        narrow: ("PERMISSION_DENIED", "SCOPE_MISSING"),
    }
    for key, brief in expected.items():
        stubs = Stubs(channel, key)
        assert stubs.fail(stubs.experiments.CreateExperiment, request).brief == brief
    allowed = Stubs(channel, narrow)
    allowed.experiments.ListExperiments(experiments_pb2.ListExperimentsRequest(), metadata=allowed.metadata, timeout=30)


def test_an_unknown_method_and_a_garbled_message_are_told(channel: grpc.Channel, stack: Stack) -> None:
    """Even what no stub would send gets a code and a reason, never UNKNOWN."""
    service = "/ml_platform.v1.ExperimentService"
    unknown: Any = channel.unary_unary(f"{service}/Nothing")
    garbled: Any = channel.unary_unary(f"{service}/GetRun")
    stubs = Stubs(channel, stack.api_key)
    assert stubs.fail(unknown, b"").brief == ("UNIMPLEMENTED", "UNIMPLEMENTED")
    assert stubs.fail(garbled, b"\xff\xff").code == "INVALID_ARGUMENT"
