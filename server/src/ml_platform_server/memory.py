"""Sets Python up for a server whose calls should not wait: for the garbage collector, or for a thread that has much to do."""

from __future__ import annotations

import gc
import sys

# New objects between two looks at the young ones, and looks at the young ones between two at all of them. A call makes dozens of
# objects that reference counting frees; what needs the collector is rare. Python's own numbers look every few calls.
_YOUNG = 20_000
_MIDDLE = 50
_OLD = 100
# Seconds that a thread may hold the interpreter while another wants it; Python's own five milliseconds are ten calls.
_SWITCH = 0.0005


def tune_gc() -> None:
    """Take what is loaded by now out of the collector's sight, for good: the libraries alone are half a million objects.

    Walking through them stops every call for a tenth of a second, and finds nothing. Nor may a thread that talks to a backend
    keep the event loop waiting.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
    sys.setswitchinterval(_SWITCH)
