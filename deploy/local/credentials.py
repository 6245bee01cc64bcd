"""The secrets of one stack: made once, kept in the state folder for its owner alone."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local.state import write_private

AIRFLOW_USER = "platform"


@dataclass
class Credentials:
    """What the services need to trust one another, and the first API key; the key is empty until the server has made it."""

    key_pepper: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    airflow_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    postgres_password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    api_key: str = field(default="", repr=False)


def load(path: Path) -> Credentials:
    """Read the secrets, or make and keep them."""
    known = json.loads(path.read_text()) if path.exists() else {}
    credentials = Credentials(**known)
    if known != asdict(credentials):
        save(path, credentials)
    return credentials


def save(path: Path, credentials: Credentials) -> None:
    """Keep the secrets."""
    write_private(path, json.dumps(asdict(credentials), indent=2) + "\n")
