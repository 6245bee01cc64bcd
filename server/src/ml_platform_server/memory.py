"""Keeps Python's garbage collector from walking through everything that a server has loaded."""

from __future__ import annotations

import gc

# New objects between two looks at the young ones, and looks at the young ones between two at all of them. A call makes dozens of
# objects that reference counting frees; what needs the collector is rare. Python's own numbers look every few calls.
_YOUNG = 20_000
_MIDDLE = 50
_OLD = 100


def settle() -> None:
    """Take what is loaded by now out of the collector's sight, for good: the libraries alone are half a million objects.

    Walking through them stops every call for a tenth of a second, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
