"""Expects a failure of the platform's own, by its reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ml_platform_server.errors import PlatformError


@contextmanager
def refused(reason: str) -> Iterator[pytest.ExceptionInfo[PlatformError]]:
    """The block raises a PlatformError of this reason, with words for its caller."""
    with pytest.raises(PlatformError) as caught:
        yield caught
    assert caught.value.reason_name == reason, f"{caught.value.reason_name}: {caught.value.message}"
    assert caught.value.message
    assert caught.value.remedy
