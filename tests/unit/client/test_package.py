"""The package as a whole: what is public, what importing costs, and that nothing of it has drifted."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.message_factory import GetMessageClass

import ml_platform
from ml_platform import AsyncMLPlatform, MLPlatform, rpcs
from ml_platform.rpcs import MethodSpec

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = """
Aborted OnnxConversion AlreadyExists AsyncJobWatch AsyncMLPlatform AsyncTrainingJob BackendHealth Cancelled Code Column
ConfigurationError DeadlineExceeded Deployment Entity Experiment FailedPrecondition Feature FeaturePolicy FeatureValue
FeatureVector FeatureView FileSource Health Identity Internal InvalidArgument Job JobFailed JobUpdate JobWatch Listing
MLPlatform MLPlatformError Materialization MetricPoint Metrics ModelVersion NotFound OnlineFeatures PermissionDenied Prediction
PushResult RegisteredModel ResourceExhausted Run Signature SkippedRow StreamedPrediction Task TrainingJob Unauthenticated
Unavailable Unimplemented Violation
"""
METHODS = """
api_url close create_experiment deploy_model get_deployment get_experiment get_experiment_runs get_feature_view get_metric_history
get_model get_model_version get_online_features get_run get_training_job get_training_job_status health list_deployments
list_experiments list_feature_views list_model_versions list_models list_training_jobs materialize_features metrics predict
predict_many predict_stream push_features register_feature_view register_model train_model wait_for_deployment
watch_training_job whoami with_options
"""


def test_the_public_list() -> None:
    """The public names are these and no others, and each of them is there."""
    assert sorted(ml_platform.__all__) == sorted(PUBLIC.split())
    assert [name for name in ml_platform.__all__ if getattr(ml_platform, name).__name__ != name] == []
    with pytest.raises(AttributeError):
        ml_platform.something_else  # noqa: B018


def test_the_public_methods() -> None:
    """Both APIs of the client have these methods and no others, with the same arguments."""
    for client in (MLPlatform, AsyncMLPlatform):
        assert sorted(name for name in dir(client) if not name.startswith("_")) == sorted(METHODS.split())
    for name in METHODS.split():
        if callable(getattr(MLPlatform, name)):
            ours, theirs = (
                list(inspect.signature(getattr(client, name)).parameters.values()) for client in (MLPlatform, AsyncMLPlatform)
            )
            assert ours == theirs, name


@pytest.mark.parametrize("client", [MLPlatform, AsyncMLPlatform])
def test_every_method_is_explained(client: type) -> None:
    """Every public method has a docstring, and all but the plainest have an example."""
    plain = {"close", "api_url"}
    for name in METHODS.split():
        text = inspect.getdoc(getattr(client, name)) or ""
        assert text, name
        assert name in plain or ">>>" in text, name


def test_every_rpc_of_the_contract_is_known() -> None:
    """The table of methods names every RPC of the contract with the types it has there."""
    pool = descriptor_pool.Default()
    known = {rpc.path: rpc for rpc in vars(rpcs).values() if isinstance(rpc, MethodSpec)}
    services = {rpc.service for rpc in known.values()}
    wanted = {}
    for path in sorted((ROOT / "protos" / "ml_platform" / "v1").glob("*.proto")):
        for service in pool.FindFileByName(f"ml_platform/v1/{path.name}").services_by_name.values():
            assert service.name in services
            for method in service.methods:
                wanted[f"/{service.full_name}/{method.name}"] = (
                    GetMessageClass(method.input_type),
                    GetMessageClass(method.output_type),
                )
    assert {path: (rpc.request, rpc.response) for path, rpc in known.items()} == wanted


def test_the_synchronous_face_is_made_from_the_asynchronous_one() -> None:
    """What is checked in is what the generator writes."""
    made = subprocess.run(
        [sys.executable, "scripts/sync_api.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stderr) == (0, "")


def test_importing_is_light() -> None:
    """Beside what gRPC loads by itself, importing the client loads only protobuf, itself and the standard library."""
    base = set(_run("import sys, grpc, grpc.aio; print(*sys.modules)").split())
    loaded = set(_run("import sys; from ml_platform import MLPlatform, AsyncMLPlatform, NotFound; print(*sys.modules)").split())
    parts = {name.split(".")[0] for name in loaded - base} - sys.stdlib_module_names
    assert {name for name in parts if not name.startswith("_")} <= {"google", "ml_platform"}
    assert {"pandas", "mlflow", "rich", "numpy"} & loaded == set()


def test_importing_the_package_alone_loads_nothing() -> None:
    """A program that needs only the stubs or the MLflow integration does not pay for gRPC."""
    assert "grpc" not in _run("import sys, ml_platform; print(*sys.modules)").split()


def test_importing_is_quick() -> None:
    """The client adds no more than gRPC and protobuf themselves take, or 150 ms if that is more."""
    clock = "from time import process_time as now; t=now(); {}; u=now(); {}; v=now(); print(u-t, v-u)"
    base = "import grpc, grpc.aio, google.protobuf.struct_pb2, google.rpc.error_details_pb2, google.api.annotations_pb2"
    # The best of several: the first one also compiles, and other programs take their share of the machine.
    runs = [_run(clock.format(base, "from ml_platform import MLPlatform")).split() for _ in range(5)]
    ours, theirs = min(float(run[1]) for run in runs), min(float(run[0]) for run in runs)
    assert ours < max(theirs, 0.15)


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
