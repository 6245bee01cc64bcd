"""Environments by name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from ml_platform_server.environments import Environments
from ml_platform_server.errors import PlatformError
from ml_platform_server.settings import ServerSettings


def test_the_default_is_production_or_the_last():
    """A client that names no version asks where it counts most."""
    assert Environments(ServerSettings().environment_names).default == "production"
    assert [*Environments(["dev", "canary", "live"])] == ["live", "dev", "canary"]


def test_a_name_that_is_no_environment_is_refused_with_those_there_are():
    """And with the one that was probably meant."""
    environments = Environments(["staging", "production"])
    environments.check("staging")
    with pytest.raises(PlatformError) as caught:
        environments.check("prodution")
    (violation,) = caught.value.violations
    assert (caught.value.reason_name, violation.field) == ("INVALID_FIELDS", "environment")
    assert violation.description.endswith("there are production, staging; did you mean 'production'?")


@pytest.mark.parametrize("names", ["", " , ", "Staging", "latest", "v1", "1st", "a b", "é", "x" * 64])
def test_a_name_that_the_registry_takes_for_no_alias_cannot_be_configured(names):
    """Each environment has an alias in the registry."""
    with pytest.raises(ValidationError, match="environment"):
        ServerSettings(environments=names)
