"""How failures are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast
from unittest.mock import AsyncMock
from urllib import parse

from ml_platform.v1 import errors_pb2
from ml_platform_server.call import Call
from ml_platform_server.errors import PlatformError, Violation, to_status
from ml_platform_server.interceptors import errors
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
    await end(cast("Call", SimpleNamespace(context=SimpleNamespace(abort=abort), log_fields={}, correlation_id="r")), failure)
    assert abort.await_args is not None
    _, text, trailing = abort.await_args.args
    assert len(text) + sum(len(value) for _, value in trailing) < 8192


def test_a_long_text_is_cut_before_it_is_quoted(monkeypatch) -> None:
    """Quoting takes as long as the text is, so of a text of megabytes only what can be told is quoted."""
    quoted: list[int] = []

    def quote(text: str) -> str:
        quoted.append(len(text))
        return parse.quote(text)

    monkeypatch.setattr(errors, "quote", quote)
    assert len(errors._cut("There is no " + "u" * 2**20, 1200)) <= 1200
    assert max(quoted) <= 1201


def test_an_error_keeps_no_more_of_a_text_than_it_tells() -> None:
    """Texts are cut when an error is made, so that neither logs nor the errors of rows carry megabytes."""
    long = "x" * 2**20
    error = PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_MISSING,
        long,
        remedy="Check the key.",
        violations=[Violation(long, long)] * 1000,
        resource=("entity", long),
        metadata={"entity": long},
    )
    assert len(str(error)) < 3000
    assert len(to_status(error, "r").SerializeToString()) < 500_000
