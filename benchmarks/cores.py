"""Which processor does what: the server under test has one core for itself, everything else shares the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_ALL = sorted(os.sched_getaffinity(0))
SERVER = frozenset(_ALL[:1])
# On a machine with one core there is nothing to separate; the results page tells the cores.
LOAD = frozenset(_ALL[1:] or _ALL)


@contextmanager
def on(cores: frozenset[int]) -> Iterator[None]:
    """Run what this thread starts inside the block on these cores: a child inherits them from the thread that starts it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
