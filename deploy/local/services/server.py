"""The platform's own gRPC server."""

from __future__ import annotations

import json

from deploy.local import probes
from deploy.local.config import HOST
from deploy.local.credentials import AIRFLOW_USER
from deploy.local.layout import Layout, Service, program
from deploy.local.services import postgres
from deploy.local.state import write_private


def service(layout: Layout) -> Service:
    """Describe it."""
    port = layout.addresses.ports["server"]
    return Service(
        name="server",
        command=(program("ml-platform-server"), "serve"),
        probe=lambda: probes.grpc_serving(port),
        # Where paths in the feature store's configuration are relative to.
        address=layout.addresses.address("server"),
        folder=layout.feature_store.parent,
        environment=lambda: settings(layout),
        # The example's step makes the feature registry, which two processes should not make at once.
        needs=("store", "example"),
    )


def store(layout: Layout) -> dict[str, str]:
    """Give the settings that commands for keys need, without the prefix. No secret is among them: files hold those."""
    pepper = layout.state.folder("server") / "key_pepper"
    write_private(pepper, layout.credentials.key_pepper)
    return {"STORE__URL": postgres.url(layout, "platform"), "STORE__KEY_PEPPER_FILE": str(pepper)}


def settings(layout: Layout) -> dict[str, str]:
    """Give the environment of the server and of its other commands."""
    folder = layout.state.folder("server")
    # Where the examples keep their files, where relative paths begin, and what a person added.
    sources = (layout.state.folder("data"), layout.feature_store.parent, *layout.data_folders)
    sections = {
        "SERVER__HOST": HOST,
        "SERVER__PORT": str(layout.addresses.ports["server"]),
        **store(layout),
        "MLFLOW__TRACKING_URI": layout.addresses.url("mlflow"),
        "FEAST__CONFIG_PATH": str(layout.feature_store),
        "FEAST__SOURCE_ROOTS": json.dumps([str(folder) for folder in sources]),
        # Whoever tries things out applies features from outside, and looks for them at once.
        "FEAST__REGISTRY_TTL": "5",
        "AIRFLOW__API_URL": layout.addresses.url("airflow"),
        "AIRFLOW__USERNAME": AIRFLOW_USER,
        "AIRFLOW__PASSWORD": layout.credentials.airflow_password,
        "AIRFLOW__TRAINING_PIPELINE": "fraud_detection_training",
        "BENTOML__URL": layout.addresses.url("bentoml"),
        "SERVING__MODEL_CACHE": str(folder / "models"),
    }
    return {**layout.environment(), **{f"ML_PLATFORM_{name}": value for name, value in sections.items()}}
