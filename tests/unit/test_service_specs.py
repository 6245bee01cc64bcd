"""What a server is made of, by the services that it offers."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from ml_platform_server.service_specs import SERVICE_SPECS, parts_for, selected_specs
from ml_platform_server.settings import SERVICES, ServerSettings, Settings, StoreSettings
from ml_platform_server.transport.grpc_aio.health import HealthServicer

LATE = {"airflow", "jobs", "hub", "reconciler", "engine"}


async def made(services: str) -> set[str]:
    """The parts that these services make."""
    settings = Settings(
        server=ServerSettings(services=services),
        store=StoreSettings(url="sqlite+aiosqlite:///nowhere.db", key_pepper=SecretStr("a pepper")),
    )
    specs = selected_specs(settings)
    parts = parts_for(settings, specs, health=HealthServicer())
    for spec in specs:
        spec.servicer(parts)
    _ = parts.prober
    return set(parts.made)


def test_every_service_has_a_name_that_can_be_asked_for():
    """The names that the settings know are those of the services that there are."""
    assert {spec.name for spec in SERVICE_SPECS} == set(SERVICES)


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ("predictions", {"engine"}),
        ("experiments", set()),
        ("models", set()),
        ("features", {"airflow", "jobs"}),
        ("training", {"airflow", "jobs"}),
        ("jobs", {"airflow", "jobs", "hub"}),
        ("deployments", {"airflow", "jobs", "reconciler"}),
        ("predictions, deployments", {"airflow", "jobs", "reconciler", "engine"}),
        ("all", LATE),
    ],
)
async def test_a_server_has_no_more_than_its_services_need(services, expected):
    """A process that predicts has nothing to do with Airflow, and one that trains loads no models."""
    assert await made(services) & LATE == expected


@pytest.mark.parametrize("services", ["", " , ", "oracles", "predictions,oracles", "all,predictions"])
def test_services_that_are_none_are_refused_with_those_there_are(services):
    """Whoever asks for a service that does not exist hears of those that do."""
    with pytest.raises(ValidationError, match="there are experiments, models, deployments"):
        ServerSettings(services=services)


def test_a_part_can_be_given_in_place_of_the_real_one():
    """What needs it gets it; a name that is no part's is a mistake."""
    settings = Settings(server=ServerSettings(services="predictions"))
    clock: Any = object()
    parts = parts_for(settings, selected_specs(settings), health=HealthServicer(), given={"clock": clock})
    assert (parts.clock, parts.made) == (clock, frozenset({"clock"}))
    with pytest.raises(ValueError, match="no part clok"):
        parts_for(settings, selected_specs(settings), health=HealthServicer(), given={"clok": clock})
