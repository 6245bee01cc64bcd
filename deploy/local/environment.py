"""The environment of the stack's processes, and the lines that `make env` prints for a person's shell."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.config import HOST, Addresses

# Settings of other installations would make our services use those; PYTEST_* makes some libraries behave as if under test.
# AIRFLOW_CONN_* and AIRFLOW_VAR_* stay: DAGs read them.
FOREIGN = ("AIRFLOW__", "AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW_CTX_", "MLFLOW_", "FEAST_", "BENTOML_", "PYTEST_")
QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NO_COLOR": "1",
    "PYTHONUNBUFFERED": "1",
}


def base(inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Give what every process of the stack starts from: the caller's environment without settings of other installations."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(FOREIGN)}
    # Services start one another by name (Airflow does), so this environment's programs come first.
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, **QUIET, "PATH": path, **_no_proxy(kept)}


def _no_proxy(inherited: Mapping[str, str]) -> dict[str, str]:
    """Keep a proxy for the outside world out of talks on this machine."""
    known = inherited.get("no_proxy", inherited.get("NO_PROXY", ""))
    names = ",".join(part for part in (known, HOST, "localhost") if part)
    return {"no_proxy": names, "NO_PROXY": names}


def for_tasks(addresses: Addresses, *, state: Path, feature_store: Path) -> dict[str, str]:
    """Give what pipelines and models find: the tracking server, the feature store, the serving side."""
    return {
        "MLFLOW_TRACKING_URI": addresses.url("mlflow"),
        "FEAST_FS_YAML_FILE_PATH": str(feature_store),
        "BENTOML_URL": addresses.url("bentoml"),
        "ML_PLATFORM_STATE": str(state),
    }


def for_users(
    addresses: Addresses, *, state: Path, feature_store: Path, api_key: str, store: Mapping[str, str]
) -> dict[str, str]:
    """Give what a person's scripts need to use a running stack, and `ml-platform-server keys` to find its store."""
    return {
        **{f"ML_PLATFORM_{name}": value for name, value in store.items()},
        "ML_PLATFORM_API_URL": addresses.url("server"),
        "ML_PLATFORM_API_KEY": api_key,
        "AIRFLOW_API_URL": addresses.url("airflow"),
        **for_tasks(addresses, state=state, feature_store=feature_store),
    }


def export_lines(variables: Mapping[str, str]) -> str:
    """Write variables as lines that a shell can evaluate."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())
