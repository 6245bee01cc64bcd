"""A user's program: imports every module of the client and calls a platform. Run by test_environments.py in bare environments."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from importlib import metadata

import ml_platform
from ml_platform import ConfigurationError, MLPlatform, NotFound


def main(url: str) -> None:
    """Import, call, and print what came of it."""
    # The MLflow integration is imported by MLflow itself, in environments that have it.
    skipped = "ml_platform.integrations."
    for module in pkgutil.walk_packages(ml_platform.__path__, "ml_platform."):
        if not module.name.startswith(skipped):
            importlib.import_module(module.name)
    for name in (
        "auth",
        "deployments",
        "errors",
        "experiments",
        "features",
        "jobs",
        "models",
        "platform",
        "predictions",
        "training",
    ):
        importlib.import_module(f"ml_platform.v1.{name}_pb2")
    for name in ("deployments", "experiments", "features", "models", "platform", "predictions", "training"):
        importlib.import_module(f"ml_platform.v1.{name}_pb2_grpc")
    with MLPlatform(url, "k") as platform:
        experiments = platform.list_experiments()
        try:
            platform.get_experiment(name="nothing")
        except NotFound as error:
            reason = error.reason
    try:
        frame = list(experiments.to_pandas()["name"])
    except ConfigurationError as error:
        frame = [error.reason]
    versions = {name: metadata.version(name) for name in ("protobuf", "grpcio")}
    print(json.dumps({"names": [each.name for each in experiments], "reason": reason, "frame": frame, **versions}))


main(sys.argv[1])
