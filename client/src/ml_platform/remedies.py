"""Says in Python's names what the platform's remedies say in the contract's."""

from __future__ import annotations

import re
from collections.abc import Mapping

# The method of the client for each RPC that a remedy may name.
METHODS: Mapping[str, str] = {
    "CreateExperiment": "create_experiment",
    "GetExperiment": "get_experiment",
    "ListExperiments": "list_experiments",
    "ListRuns": "get_experiment_runs",
    "GetRun": "get_run",
    "GetMetricHistory": "get_metric_history",
    "RegisterModel": "register_model",
    "ListModels": "list_models",
    "GetModel": "get_model",
    "ListModelVersions": "list_model_versions",
    "GetModelVersion": "get_model_version",
    "DeployModel": "deploy_model",
    "GetDeployment": "get_deployment",
    "ListDeployments": "list_deployments",
    "SubmitTrainingJob": "train_model",
    "GetJob": "get_training_job_status",
    "ListJobs": "list_training_jobs",
    "WatchJob": "watch_training_job",
    "RegisterFeatureView": "register_feature_view",
    "GetFeatureView": "get_feature_view",
    "ListFeatureViews": "list_feature_views",
    "MaterializeFeatures": "materialize_features",
    "PushFeatures": "push_features",
    "GetOnlineFeatures": "get_online_features",
    "Predict": "predict",
    "BatchPredict": "predict_many",
    "StreamPredict": "predict_stream",
    "GetHealth": "health",
    "GetUsage": "metrics",
    "WhoAmI": "whoami",
}
# Remedies that speak of what this client does by itself.
_BY_REASON: Mapping[str, str] = {
    "CREDENTIALS_MISSING": "Give api_key, or set ML_PLATFORM_API_KEY.",
    "PAGE_TOKEN_INVALID": "Call again: the list has changed while it was read.",
}
_RPC = re.compile(rf"\b(?:\w+Service\.)?({'|'.join(sorted(METHODS, key=len, reverse=True))})\b(?!\()")


def in_python(remedy: str, reason: str) -> str:
    """A remedy in the words of this client.

    Args:
        remedy: the platform's.
        reason: the error's reason.
    """
    return _BY_REASON.get(reason) or _RPC.sub(lambda found: f"{METHODS[found[1]]}()", remedy)
