"""How many files and sockets this process may have open, and how many connections that leaves room for."""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # There is no such limit outside Unix.
    resource = None  # type: ignore[assignment]  # looked at before each use

# More than a server of this kind needs; some programs that it starts walk through all that they may have.
_ENOUGH = 65_536


def raise_limit() -> None:
    """Let this process have as many descriptors open as it may allow itself, since each connection is one."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """Connections that callers may have at once: three quarters of the descriptors; the rest is for backends and files."""
    soft = _ENOUGH if resource is None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (_ENOUGH if soft < 0 else min(soft, _ENOUGH)) * 3 // 4
