"""Reads the rich error of a failed call, as any caller would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class RichError:
    """What a failed call said."""

    code: str
    reason: str
    message: str
    metadata: dict[str, str]
    fields: tuple[str, ...]
    retry_after: float | None

    @property
    def brief(self) -> tuple[str, str]:
        """The code and the reason, which is what most tests compare."""
        return self.code, self.reason


def rich_error(error: grpc.RpcError | grpc.aio.AioRpcError) -> RichError:
    """Unpack google.rpc.Status from the trailing metadata; a failure without one fails the test."""
    metadata: Any = error.trailing_metadata() or ()
    trailers = {str(key): value for key, value in metadata}
    assert "grpc-status-details-bin" in trailers, f"no rich status on {error.code()}: {error.details()}"
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_after = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    assert info.domain == "mlplatform.io"
    assert info.metadata["remedy"]
    assert info.metadata["correlation_id"]
    return RichError(
        code=error.code().name,
        reason=info.reason,
        message=status.message,
        metadata=dict(info.metadata),
        fields=tuple(violation.field for violation in bad.field_violations),
        retry_after=retry_after,
    )
