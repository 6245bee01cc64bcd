"""MLflow: experiments, runs, models and their artifacts."""

from __future__ import annotations

from deploy.local import probes
from deploy.local.config import HOST
from deploy.local.layout import Layout, Service, program
from deploy.local.services import postgres


def service(layout: Layout) -> Service:
    """Describe it: PostgreSQL for the records, a folder for the artifacts, which it serves itself."""
    port = layout.addresses.ports["mlflow"]
    folder = layout.state.folder("mlflow")
    options = {
        "--artifacts-destination": layout.state.folder("mlflow", "artifacts").as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
    }
    return Service(
        name="mlflow",
        command=(program("mlflow"), "server", *(word for option in options.items() for word in option)),
        probe=lambda: probes.http_ok(port, "/health"),
        address=layout.addresses.address("mlflow"),
        folder=folder,
        # Its background jobs judge traces of language models: seven processes that nobody here needs.
        environment=lambda: {
            **layout.environment(),
            "MLFLOW_BACKEND_STORE_URI": postgres.url(layout, "mlflow"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        },
        needs=("databases",),
    )
