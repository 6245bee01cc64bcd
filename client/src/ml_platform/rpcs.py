"""The methods of the contract that this client calls, each with the types it takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from ml_platform.v1 import (
    deployments_pb2,
    experiments_pb2,
    features_pb2,
    jobs_pb2,
    models_pb2,
    platform_pb2,
    predictions_pb2,
    training_pb2,
)

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)


@dataclass(frozen=True, slots=True)
class MethodSpec(Generic[Req, Resp]):
    """One method: where it is, what it takes and what it gives."""

    service: str
    name: str
    request: type[Req]
    response: type[Resp]

    @property
    def path(self) -> str:
        """The method's path on the wire."""
        return f"/ml_platform.v1.{self.service}/{self.name}"


_e, _m, _d = experiments_pb2, models_pb2, deployments_pb2
_t, _j, _f, _p, _q = training_pb2, jobs_pb2, features_pb2, platform_pb2, predictions_pb2

CREATE_EXPERIMENT = MethodSpec("ExperimentService", "CreateExperiment", _e.CreateExperimentRequest, _e.CreateExperimentResponse)
GET_EXPERIMENT = MethodSpec("ExperimentService", "GetExperiment", _e.GetExperimentRequest, _e.GetExperimentResponse)
LIST_EXPERIMENTS = MethodSpec("ExperimentService", "ListExperiments", _e.ListExperimentsRequest, _e.ListExperimentsResponse)
LIST_RUNS = MethodSpec("ExperimentService", "ListRuns", _e.ListRunsRequest, _e.ListRunsResponse)
GET_RUN = MethodSpec("ExperimentService", "GetRun", _e.GetRunRequest, _e.GetRunResponse)
GET_METRIC_HISTORY = MethodSpec("ExperimentService", "GetMetricHistory", _e.GetMetricHistoryRequest, _e.GetMetricHistoryResponse)

REGISTER_MODEL = MethodSpec("ModelService", "RegisterModel", _m.RegisterModelRequest, _m.RegisterModelResponse)
LIST_MODELS = MethodSpec("ModelService", "ListModels", _m.ListModelsRequest, _m.ListModelsResponse)
GET_MODEL = MethodSpec("ModelService", "GetModel", _m.GetModelRequest, _m.GetModelResponse)
LIST_MODEL_VERSIONS = MethodSpec("ModelService", "ListModelVersions", _m.ListModelVersionsRequest, _m.ListModelVersionsResponse)
GET_MODEL_VERSION = MethodSpec("ModelService", "GetModelVersion", _m.GetModelVersionRequest, _m.GetModelVersionResponse)

DEPLOY_MODEL = MethodSpec("DeploymentService", "DeployModel", _d.DeployModelRequest, _d.DeployModelResponse)
GET_DEPLOYMENT = MethodSpec("DeploymentService", "GetDeployment", _d.GetDeploymentRequest, _d.GetDeploymentResponse)
LIST_DEPLOYMENTS = MethodSpec("DeploymentService", "ListDeployments", _d.ListDeploymentsRequest, _d.ListDeploymentsResponse)

SUBMIT_TRAINING_JOB = MethodSpec(
    "TrainingService", "SubmitTrainingJob", _t.SubmitTrainingJobRequest, _t.SubmitTrainingJobResponse
)
GET_JOB = MethodSpec("JobService", "GetJob", _j.GetJobRequest, _j.GetJobResponse)
LIST_JOBS = MethodSpec("JobService", "ListJobs", _j.ListJobsRequest, _j.ListJobsResponse)
WATCH_JOB = MethodSpec("JobService", "WatchJob", _j.WatchJobRequest, _j.WatchJobResponse)

REGISTER_FEATURE_VIEW = MethodSpec(
    "FeatureService", "RegisterFeatureView", _f.RegisterFeatureViewRequest, _f.RegisterFeatureViewResponse
)
GET_FEATURE_VIEW = MethodSpec("FeatureService", "GetFeatureView", _f.GetFeatureViewRequest, _f.GetFeatureViewResponse)
LIST_FEATURE_VIEWS = MethodSpec("FeatureService", "ListFeatureViews", _f.ListFeatureViewsRequest, _f.ListFeatureViewsResponse)
MATERIALIZE_FEATURES = MethodSpec(
    "FeatureService", "MaterializeFeatures", _f.MaterializeFeaturesRequest, _f.MaterializeFeaturesResponse
)
PUSH_FEATURES = MethodSpec("FeatureService", "PushFeatures", _f.PushFeaturesRequest, _f.PushFeaturesResponse)
GET_ONLINE_FEATURES = MethodSpec("FeatureService", "GetOnlineFeatures", _f.GetOnlineFeaturesRequest, _f.GetOnlineFeaturesResponse)

PREDICT = MethodSpec("PredictionService", "Predict", _q.PredictRequest, _q.PredictResponse)
BATCH_PREDICT = MethodSpec("PredictionService", "BatchPredict", _q.BatchPredictRequest, _q.BatchPredictResponse)
STREAM_PREDICT = MethodSpec("PredictionService", "StreamPredict", _q.StreamPredictRequest, _q.StreamPredictResponse)

GET_HEALTH = MethodSpec("PlatformService", "GetHealth", _p.GetHealthRequest, _p.GetHealthResponse)
GET_USAGE = MethodSpec("PlatformService", "GetUsage", _p.GetUsageRequest, _p.GetUsageResponse)
WHO_AM_I = MethodSpec("PlatformService", "WhoAmI", _p.WhoAmIRequest, _p.WhoAmIResponse)
