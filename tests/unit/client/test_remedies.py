"""Remedies in Python's names."""

from __future__ import annotations

import pytest

from ml_platform import AsyncMLPlatform, MLPlatform, rpcs
from ml_platform.remedies import METHODS, in_python
from ml_platform.rpcs import MethodSpec


@pytest.mark.parametrize(
    ("remedy", "expected"),
    [
        (
            "Choose another name: GetExperiment finds it by its name.",
            "Choose another name: get_experiment() finds it by its name.",
        ),
        ("Deploy one with DeploymentService.DeployModel, and wait.", "Deploy one with deploy_model(), and wait."),
        ("List them with ListModelVersions.", "List them with list_model_versions()."),
        ("Predictions are unpredictable.", "Predictions are unpredictable."),
    ],
)
def test_methods_are_named_as_in_python(remedy: str, expected: str):
    """The contract's methods become those of the client, whole words only."""
    assert in_python(remedy, "") == expected


def test_what_the_client_does_by_itself_is_said_in_its_terms():
    """A missing key is an argument or a variable here, not metadata."""
    assert (
        in_python("Send one in the metadata 'authorization'.", "CREDENTIALS_MISSING")
        == "Give api_key, or set ML_PLATFORM_API_KEY."
    )


def test_every_rpc_has_a_method_and_every_method_exists():
    """Nothing that the client calls is left in the contract's words, and no remedy names a method that is not there."""
    called = {value.name for value in vars(rpcs).values() if isinstance(value, MethodSpec)}
    assert called == METHODS.keys()
    for kind in (MLPlatform, AsyncMLPlatform):
        assert [name for name in METHODS.values() if not callable(getattr(kind, name, None))] == []
