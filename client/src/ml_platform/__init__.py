"""The Python client of ML Platform: one typed door to experiments, training, models, features and predictions.

>>> from ml_platform import MLPlatform
>>> platform = MLPlatform()  # reads ML_PLATFORM_API_URL and ML_PLATFORM_API_KEY
>>> platform.create_experiment(name="fraud").status
'created'

What `__all__` lists is public. Everything is imported when it is first used, so that programs which need only the generated stubs
(`ml_platform.v1`) or the MLflow integration do not pay for the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_platform.aio.client import AsyncMLPlatform
    from ml_platform.aio.jobs import AsyncTrainingJob
    from ml_platform.aio.watch import AsyncJobWatch
    from ml_platform.errors import (
        Aborted,
        AlreadyExists,
        Cancelled,
        Code,
        ConfigurationError,
        DeadlineExceeded,
        FailedPrecondition,
        Internal,
        InvalidArgument,
        JobFailed,
        MLPlatformError,
        NotFound,
        PermissionDenied,
        ResourceExhausted,
        Unauthenticated,
        Unavailable,
        Unimplemented,
        Violation,
    )
    from ml_platform.records import Listing
    from ml_platform.resources.deployments import Deployment
    from ml_platform.resources.experiments import Experiment, MetricPoint, Run
    from ml_platform.resources.features import (
        Entity,
        Feature,
        FeatureValue,
        FeatureVector,
        FeatureView,
        FileSource,
        Materialization,
        OnlineFeatures,
        PushResult,
        SkippedRow,
    )
    from ml_platform.resources.jobs import Job, JobUpdate, Task
    from ml_platform.resources.models import Column, ModelVersion, OnnxConversion, RegisteredModel, Signature
    from ml_platform.resources.platform import BackendHealth, Health, Identity, Metrics
    from ml_platform.resources.policies import FeaturePolicy
    from ml_platform.resources.predictions import Prediction, StreamedPrediction
    from ml_platform.sync.client import MLPlatform
    from ml_platform.sync.jobs import TrainingJob
    from ml_platform.sync.watch import JobWatch

    __version__: str

__all__ = [
    "Aborted",
    "AlreadyExists",
    "AsyncJobWatch",
    "AsyncMLPlatform",
    "AsyncTrainingJob",
    "BackendHealth",
    "Cancelled",
    "Code",
    "Column",
    "ConfigurationError",
    "DeadlineExceeded",
    "Deployment",
    "Entity",
    "Experiment",
    "FailedPrecondition",
    "Feature",
    "FeaturePolicy",
    "FeatureValue",
    "FeatureVector",
    "FeatureView",
    "FileSource",
    "Health",
    "Identity",
    "Internal",
    "InvalidArgument",
    "Job",
    "JobFailed",
    "JobUpdate",
    "JobWatch",
    "Listing",
    "MLPlatform",
    "MLPlatformError",
    "Materialization",
    "MetricPoint",
    "Metrics",
    "ModelVersion",
    "NotFound",
    "OnlineFeatures",
    "OnnxConversion",
    "PermissionDenied",
    "Prediction",
    "PushResult",
    "RegisteredModel",
    "ResourceExhausted",
    "Run",
    "Signature",
    "SkippedRow",
    "StreamedPrediction",
    "Task",
    "TrainingJob",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Violation",
]

_HOMES = {
    "aio.client": ["AsyncMLPlatform"],
    "aio.jobs": ["AsyncTrainingJob"],
    "aio.watch": ["AsyncJobWatch"],
    "records": ["Listing"],
    "resources.deployments": ["Deployment"],
    "resources.experiments": ["Experiment", "MetricPoint", "Run"],
    "resources.features": [
        "Entity",
        "Feature",
        "FeatureValue",
        "FeatureVector",
        "FeatureView",
        "FileSource",
        "Materialization",
        "OnlineFeatures",
        "PushResult",
        "SkippedRow",
    ],
    "resources.jobs": ["Job", "JobUpdate", "Task"],
    "resources.models": ["OnnxConversion", "Column", "ModelVersion", "RegisteredModel", "Signature"],
    "resources.platform": ["BackendHealth", "Health", "Identity", "Metrics"],
    "resources.policies": ["FeaturePolicy"],
    "resources.predictions": ["Prediction", "StreamedPrediction"],
    "sync.client": ["MLPlatform"],
    "sync.jobs": ["TrainingJob"],
    "sync.watch": ["JobWatch"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name == "__version__":
        return import_module("ml_platform.channel").version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"ml_platform.{_HOME_OF.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
