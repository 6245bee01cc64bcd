"""The methods of the contract that this client calls, each with the types it takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from ml_platform.v1 import deployments_pb2, experiments_pb2, features_pb2, models_pb2, platform_pb2, predictions_pb2, training_pb2

Req = TypeVar("Req", bound=Message)
Resp = TypeVar("Resp", bound=Message)


@dataclass(frozen=True, slots=True)
class Rpc(Generic[Req, Resp]):
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
_t, _f, _p, _q = training_pb2, features_pb2, platform_pb2, predictions_pb2

CREATE_EXPERIMENT = Rpc("ExperimentService", "CreateExperiment", _e.CreateExperimentRequest, _e.CreateExperimentResponse)
GET_EXPERIMENT = Rpc("ExperimentService", "GetExperiment", _e.GetExperimentRequest, _e.GetExperimentResponse)
LIST_EXPERIMENTS = Rpc("ExperimentService", "ListExperiments", _e.ListExperimentsRequest, _e.ListExperimentsResponse)
LIST_RUNS = Rpc("ExperimentService", "ListRuns", _e.ListRunsRequest, _e.ListRunsResponse)
GET_RUN = Rpc("ExperimentService", "GetRun", _e.GetRunRequest, _e.GetRunResponse)
GET_METRIC_HISTORY = Rpc("ExperimentService", "GetMetricHistory", _e.GetMetricHistoryRequest, _e.GetMetricHistoryResponse)

REGISTER_MODEL = Rpc("ModelService", "RegisterModel", _m.RegisterModelRequest, _m.RegisterModelResponse)
LIST_MODELS = Rpc("ModelService", "ListModels", _m.ListModelsRequest, _m.ListModelsResponse)
GET_MODEL = Rpc("ModelService", "GetModel", _m.GetModelRequest, _m.GetModelResponse)
LIST_MODEL_VERSIONS = Rpc("ModelService", "ListModelVersions", _m.ListModelVersionsRequest, _m.ListModelVersionsResponse)
GET_MODEL_VERSION = Rpc("ModelService", "GetModelVersion", _m.GetModelVersionRequest, _m.GetModelVersionResponse)

DEPLOY_MODEL = Rpc("DeploymentService", "DeployModel", _d.DeployModelRequest, _d.DeployModelResponse)
GET_DEPLOYMENT = Rpc("DeploymentService", "GetDeployment", _d.GetDeploymentRequest, _d.GetDeploymentResponse)
LIST_DEPLOYMENTS = Rpc("DeploymentService", "ListDeployments", _d.ListDeploymentsRequest, _d.ListDeploymentsResponse)

SUBMIT_TRAINING_JOB = Rpc("TrainingService", "SubmitTrainingJob", _t.SubmitTrainingJobRequest, _t.SubmitTrainingJobResponse)
GET_TRAINING_JOB = Rpc("TrainingService", "GetTrainingJob", _t.GetTrainingJobRequest, _t.GetTrainingJobResponse)
LIST_TRAINING_JOBS = Rpc("TrainingService", "ListTrainingJobs", _t.ListTrainingJobsRequest, _t.ListTrainingJobsResponse)
WATCH_TRAINING_JOB = Rpc("TrainingService", "WatchTrainingJob", _t.WatchTrainingJobRequest, _t.WatchTrainingJobResponse)

REGISTER_FEATURE_VIEW = Rpc(
    "FeatureService", "RegisterFeatureView", _f.RegisterFeatureViewRequest, _f.RegisterFeatureViewResponse
)
GET_FEATURE_VIEW = Rpc("FeatureService", "GetFeatureView", _f.GetFeatureViewRequest, _f.GetFeatureViewResponse)
LIST_FEATURE_VIEWS = Rpc("FeatureService", "ListFeatureViews", _f.ListFeatureViewsRequest, _f.ListFeatureViewsResponse)
MATERIALIZE_FEATURES = Rpc("FeatureService", "MaterializeFeatures", _f.MaterializeFeaturesRequest, _f.MaterializeFeaturesResponse)
PUSH_FEATURES = Rpc("FeatureService", "PushFeatures", _f.PushFeaturesRequest, _f.PushFeaturesResponse)
GET_ONLINE_FEATURES = Rpc("FeatureService", "GetOnlineFeatures", _f.GetOnlineFeaturesRequest, _f.GetOnlineFeaturesResponse)

PREDICT = Rpc("PredictionService", "Predict", _q.PredictRequest, _q.PredictResponse)
BATCH_PREDICT = Rpc("PredictionService", "BatchPredict", _q.BatchPredictRequest, _q.BatchPredictResponse)
STREAM_PREDICT = Rpc("PredictionService", "StreamPredict", _q.StreamPredictRequest, _q.StreamPredictResponse)

GET_HEALTH = Rpc("PlatformService", "GetHealth", _p.GetHealthRequest, _p.GetHealthResponse)
GET_METRICS = Rpc("PlatformService", "GetMetrics", _p.GetMetricsRequest, _p.GetMetricsResponse)
WHO_AM_I = Rpc("PlatformService", "WhoAmI", _p.WhoAmIRequest, _p.WhoAmIResponse)
