"""The real systems that the doors to them are tested against, each started once."""

from __future__ import annotations

from tests.support.feast_project import (  # noqa: F401  # fixtures are found by name
    feast_backend_fixture,
    feast_project_fixture,
    locks_fixture,
    online_fixture,
    valkey_port_fixture,
    views_fixture,
)
from tests.support.mlflow_server import (  # noqa: F401  # the same
    experiment_id_fixture,
    experiments_fixture,
    mlflow_backend_fixture,
    mlflow_server_fixture,
    models_fixture,
    run_with_model_fixture,
)
