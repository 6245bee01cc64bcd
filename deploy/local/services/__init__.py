"""The services of the stack, one vendor a file: how each is started and how it is asked whether it is well."""

from __future__ import annotations

from deploy.local.layout import Layout, Service
from deploy.local.services import airflow, bentoml, mlflow, server, valkey

# In the order in which `status` tells them; starts are in parallel.
ALL = (valkey.service, mlflow.service, airflow.service, bentoml.service, server.service)


def build(layout: Layout) -> dict[str, Service]:
    """Describe every service of one stack, by name."""
    return {service.name: service for service in (describe(layout) for describe in ALL)}
