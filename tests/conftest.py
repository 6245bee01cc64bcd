"""The fixtures that every kind of test may use."""

from __future__ import annotations

# Before Feast: importing that tells whoever imports Prometheus's client afterwards to count into files that processes share.
import prometheus_client.values  # noqa: F401
import pytest

from tests.support.day import (  # noqa: F401  # fixtures are found by name
    channel,
    deployed,
    experiment,
    platform,
    registered,
    trained,
)
from tests.support.postgres import postgres_server, postgres_url, store_url  # noqa: F401  # the same
from tests.support.stack import stack  # noqa: F401  # the same


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the stack, so that they can be run beside the others."""
    for item in items:
        if "stack" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.stack)
