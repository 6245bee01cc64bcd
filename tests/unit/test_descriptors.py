"""Descriptors of a process: connections leave room for what the server itself opens."""

from __future__ import annotations

import resource

import pytest

from ml_platform_server import descriptors


@pytest.fixture
def limits(monkeypatch):
    """The process's limits, soft and hard, in place of the real ones."""
    limits = [256, 4096]
    monkeypatch.setattr(resource, "getrlimit", lambda _: tuple(limits))
    monkeypatch.setattr(resource, "setrlimit", lambda _, given: limits.__setitem__(slice(None), given))
    return limits


@pytest.mark.parametrize(
    ("soft", "hard", "then"),
    [
        (256, 4096, 4096),
        (1024, resource.RLIM_INFINITY, 65_536),
        (1024, 1_048_576, 65_536),
        (100_000, 100_000, 100_000),
        (256, 256, 256),
    ],
)
def test_the_limit_is_raised_as_far_as_it_may_be(limits, soft, hard, then):
    """A server takes as many descriptors as it may, up to what it could use, and never fewer than it had."""
    limits[:] = soft, hard
    descriptors.raise_limit()
    assert limits == [then, hard]


def test_a_limit_that_cannot_be_raised_is_left(limits, monkeypatch):
    """Where the system refuses, the server starts as it is."""

    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(resource, "setrlimit", refuse)
    descriptors.raise_limit()
    assert limits == [256, 4096]


@pytest.mark.parametrize(("soft", "connections"), [(256, 192), (65_536, 49_152), (1_048_576, 49_152), (-1, 49_152)])
def test_connections_leave_descriptors_for_the_server(limits, soft, connections):
    """A quarter of the descriptors is kept for backends, the store and files."""
    limits[0] = soft
    assert descriptors.most_connections() == connections
