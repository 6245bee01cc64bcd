"""The services of the stack, one vendor a file: how each is started and how it is asked whether it is well."""

from __future__ import annotations

from deploy.local.layout import Layout, Service
from deploy.local.services import airflow, bentoml, mlflow, postgres, server, valkey


def build(layout: Layout) -> dict[str, Service]:
    """Describe every service of one stack, by name, in the order in which `status` lists them; starts are in parallel."""
    described = (
        valkey.service(layout),
        postgres.service(layout),
        mlflow.service(layout),
        *airflow.services(layout),
        bentoml.service(layout),
        server.service(layout),
    )
    return {service.name: service for service in described}
