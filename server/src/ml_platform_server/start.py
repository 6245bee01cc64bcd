"""What keeps the server from starting."""

from __future__ import annotations


class StartupError(Exception):
    """The server cannot start; the message is for the operator."""
