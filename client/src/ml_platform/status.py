"""Turns what gRPC raises into the errors of this client: the only place that reads a gRPC status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from ml_platform.config import Endpoint
from ml_platform.errors import Code, MLPlatformError, Violation, class_for
from ml_platform.remedies import in_python
from ml_platform.unreachable import Cause, too_large, unreachable

STATUS_KEY = "grpc-status-details-bin"
CORRELATION_ID_KEY = "x-request-id"

# What a status means that the platform itself did not send: nobody answered, or something in between did.
_WITHOUT_DETAILS: Mapping[Code, Cause] = {
    Code.DEADLINE_EXCEEDED: Cause(
        "The platform at {url} did not answer within the deadline.",
        "Try again, or give more time: platform.with_options(timeout=120).",
    ),
    Code.CANCELLED: Cause("The call was cancelled.", ""),
    Code.UNIMPLEMENTED: Cause(
        "The server at {url} does not know this method.",
        "Check the address, and that the server is not older than this client.",
    ),
}


def to_error(error: grpc.RpcError, *, endpoint: Endpoint, correlation_id: str, tried: str = "") -> MLPlatformError:
    """Translate a failed call.

    Args:
        error: what gRPC raised, from either of its APIs.
        endpoint: the platform's address, for the text.
        correlation_id: the id that was sent with the call, in case the answer holds none.
        tried: how often and for how long the call was tried, for the text.
    """
    code = _code(error)
    metadata = _metadata(error)
    status = _status(metadata.get(STATUS_KEY))
    correlation_id = _text(metadata.get(CORRELATION_ID_KEY)) or correlation_id
    if status is None:
        details = str(_ask(error, "details") or "")
        return _bare(code, _cause(code, details, endpoint), details, correlation_id=correlation_id, tried=tried)
    return _rich(code, status, correlation_id=correlation_id)


def from_status(status: status_pb2.Status) -> MLPlatformError:
    """The error that a reply holds for a part of what was asked, one row for instance."""
    return _rich(_CODES.get(status.code, Code.UNKNOWN), status, correlation_id="")


# Failures where it matters how long somebody tried.
_TRIED = frozenset({Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED})
_CODES = {code.value[0]: Code(code.name) for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


def _rich(code: Code, status: status_pb2.Status, *, correlation_id: str) -> MLPlatformError:
    info = _detail(status, error_details_pb2.ErrorInfo())
    facts = dict(info.metadata) if info else {}
    remedy = facts.pop("remedy", "")
    bad = _detail(status, error_details_pb2.BadRequest())
    retry = _detail(status, error_details_pb2.RetryInfo())
    resource = _detail(status, error_details_pb2.ResourceInfo())
    # The server writes the remedy behind the message, for callers that read nothing else.
    return class_for(code)(
        status.message.removesuffix(remedy).rstrip(),
        code=code,
        reason=info.reason if info else "",
        remedy=in_python(remedy, info.reason if info else ""),
        correlation_id=facts.pop("correlation_id", "") or correlation_id,
        violations=[Violation(v.field, v.description) for v in bad.field_violations] if bad else (),
        resource=(resource.resource_type, resource.resource_name) if resource else None,
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        metadata=facts,
    )


def _cause(code: Code, details: str, endpoint: Endpoint) -> Cause:
    if code == Code.UNAVAILABLE:
        return unreachable(details, endpoint)
    if code == Code.RESOURCE_EXHAUSTED and (cause := too_large(details)):
        return cause
    cause = _WITHOUT_DETAILS.get(code, Cause(details or "The call failed.", ""))
    return replace(cause, message=cause.message.replace("{url}", endpoint.url))


def _bare(code: Code, cause: Cause, details: str, *, correlation_id: str, tried: str) -> MLPlatformError:
    return class_for(code)(
        f"{cause.message} {tried}".rstrip() if code in _TRIED else cause.message,
        code=code,
        remedy=cause.remedy,
        correlation_id=correlation_id,
        metadata={"transport": details} if details else {},
    )


def _code(error: grpc.RpcError) -> Code:
    code = _ask(error, "code")
    return Code(code.name) if isinstance(code, grpc.StatusCode) else Code.UNKNOWN


def _metadata(error: grpc.RpcError) -> dict[str, str | bytes]:
    pairs: Iterable[tuple[str, str | bytes]] = _ask(error, "trailing_metadata") or ()
    return dict(pairs)


def _ask(error: grpc.RpcError, name: str) -> Any:  # noqa: ANN401  # each method has its own type
    # The bare base class has none of these methods; both of gRPC's APIs raise subclasses that do.
    method = getattr(error, name, None)
    return method() if callable(method) else None


def _status(packed: str | bytes | None) -> status_pb2.Status | None:
    if not isinstance(packed, bytes):
        return None
    try:
        return status_pb2.Status.FromString(packed)
    except DecodeError:
        return None


def _detail(status: status_pb2.Status, into: Any) -> Any:  # noqa: ANN401  # google.rpc's classes come without types
    return next((into for detail in status.details if detail.Is(into.DESCRIPTOR) and detail.Unpack(into)), None)


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else ""
