"""Every status code reaches the caller as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from ml_platform_server.codes import Code
from ml_platform_server.errors import CODES, PlatformError
from tests.support.echo import ECHO, EchoService
from tests.support.frame import running_frame


def test_the_codes_are_those_of_grpc() -> None:
    """By name and number."""
    assert {(code.name, code.value[0]) for code in grpc.StatusCode} == {(code.name, code.number) for code in Code}


async def test_a_call_ends_with_the_code_of_its_reason(tmp_path: Path) -> None:
    """One reason of each code."""
    ended: list[PlatformError] = []

    class Failing(EchoService):
        async def Unary(self, request: object, call: object) -> object:  # noqa: N802  # as in the contract
            raise ended[-1]

    reasons = {code: reason for reason, code in CODES.items()}
    async with running_frame(tmp_path, [(ECHO, Failing())]) as frame:
        method: Any = frame.channel.unary_unary(
            f"/{ECHO.full_name}/Unary", request_serializer=lambda message: message.SerializeToString()
        )
        for code, reason in reasons.items():
            ended.append(PlatformError(reason, "No.", remedy="None."))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(b"", metadata=frame.metadata)
            assert caught.value.code().name == code.name
    assert len(reasons) > 10
