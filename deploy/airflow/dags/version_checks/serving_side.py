"""Asks BentoML, which serves what the platform's server does not run itself."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from typing import Any

LOAD_PATIENCE = 120.0
"""Seconds that BentoML may take to load a model."""


def ask_bentoml(path: str, body: dict[str, Any], *, what: str) -> dict[str, Any]:
    """Ask BentoML.

    Raises:
        RuntimeError: it cannot serve the version; the text says why.
        ConnectionError: it does not answer.
    """
    url = os.environ.get("BENTOML_URL", "http://127.0.0.1:3000")
    request = urllib.request.Request(  # noqa: S310  # the operator's own URL
        url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=LOAD_PATIENCE) as answer:  # noqa: S310  # the same
            told: dict[str, Any] = json.load(answer)
            return told
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"BentoML cannot serve {what}: {reason_of(error)}") from error
    except OSError as error:
        raise ConnectionError(f"BentoML, which is to serve {what}, does not answer at {url}.") from error


def reason_of(error: urllib.error.HTTPError) -> str:
    """What BentoML says went wrong."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}"
