"""Scopes in words."""

from __future__ import annotations

import pytest

from ml_platform.v1 import auth_pb2
from ml_platform_server import scopes


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        (auth_pb2.SCOPE_EXPERIMENTS_WRITE, "experiments:write"),
        (auth_pb2.SCOPE_PREDICTIONS_PREDICT, "predictions:predict"),
        (auth_pb2.SCOPE_AUTHENTICATED, "authenticated"),
        (4711, "scope:4711"),
    ],
)
def test_a_scope_has_a_name(scope, expected):
    """The name is what stands behind SCOPE_, the last part being what may be done."""
    assert expected == scopes.name_of(scope)


def test_names_are_read_back():
    """Every scope that a key may carry is found by its name, and "all" stands for all of them."""
    for scope in scopes.GRANTABLE.values():
        assert frozenset([scope]) == scopes.parse([scopes.name_of(scope)])
    assert frozenset(scopes.GRANTABLE.values()) == scopes.parse(["all"])


@pytest.mark.parametrize("name", ["", "experiments", "authenticated", "EXPERIMENTS:READ"])
def test_a_name_that_is_no_scope_is_told(name):
    """A wrong name is told, with the right ones."""
    with pytest.raises(ValueError, match=r"is no scope\. There are: all, experiments:read"):
        scopes.parse([name])
