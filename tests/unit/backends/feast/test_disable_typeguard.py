"""Feast without its own type checks at run time."""

from __future__ import annotations

import subprocess
import sys

INSTRUMENTED = "'check_argument_types' in feast.FeatureView.__init__.__code__.co_names"


def test_feast_is_imported_without_its_type_checks():
    """Feast's classes stay as they are written when this server imports them: neither imports nor reads pay for checks."""
    code = f"import ml_platform_server.backends.feast, feast; print({INSTRUMENTED}, feast.FeatureView.__name__)"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert found.split() == ["False", "FeatureView"]
