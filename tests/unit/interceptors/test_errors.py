"""How failures are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.interceptors.errors import end


async def test_no_part_of_an_error_outgrows_the_header() -> None:
    """A caller's own text of 100 kB comes back shortened; else gRPC would show an error of its own in place of ours."""
    long = "x" * 100_000
    failure = PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_MISSING,
        long,
        remedy="Check the key.",
        violations=[Violation(long, long)],
        resource=("entity", long),
        metadata={"entity": long},
    )
    abort = AsyncMock()
    await end(cast("Call", SimpleNamespace(context=SimpleNamespace(abort=abort), facts={}, request_id="r")), failure)
    assert abort.await_args is not None
    _, text, trailing = abort.await_args.args
    assert len(text) + sum(len(value) for _, value in trailing) < 8192
