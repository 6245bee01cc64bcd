"""Page."""

from __future__ import annotations

from pathlib import Path


def write(raw: Path) -> None:
    """Write."""
