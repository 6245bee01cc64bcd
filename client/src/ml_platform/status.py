"""Turns what gRPC raises into the errors of this client: the only place that reads a gRPC status."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from ml_platform.errors import Code, MLPlatformError, Violation, class_for

STATUS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

# What a status means that the platform itself did not send: nobody answered, or something in between did.
_WITHOUT_DETAILS: Mapping[Code, tuple[str, str]] = {
    Code.UNAVAILABLE: (
        "The platform at {url} does not answer.",
        "Check that it runs and that the address is right; http:// means plaintext and https:// means TLS.",
    ),
    Code.DEADLINE_EXCEEDED: (
        "The platform at {url} did not answer within the deadline.",
        "Try again, or give more time: platform.with_options(timeout=120).",
    ),
    Code.CANCELLED: ("The call was cancelled.", ""),
    Code.UNIMPLEMENTED: (
        "The server at {url} does not know this method.",
        "Check the address, and that the server is not older than this client.",
    ),
}


def to_error(error: grpc.RpcError, *, url: str, request_id: str) -> MLPlatformError:
    """Translate a failed call.

    Args:
        error: what gRPC raised, from either of its faces.
        url: the platform's address, for the text.
        request_id: the id that was sent with the call, in case the answer holds none.
    """
    code = _code(error)
    metadata = _metadata(error)
    status = _status(metadata.get(STATUS_KEY))
    request_id = _text(metadata.get(REQUEST_ID_KEY)) or request_id
    if status is None:
        return _bare(code, str(_ask(error, "details") or ""), url=url, request_id=request_id)
    return _rich(code, status, request_id=request_id)


def from_status(status: status_pb2.Status) -> MLPlatformError:
    """The error that a reply holds for a part of what was asked, one row for instance."""
    return _rich(_CODES.get(status.code, Code.UNKNOWN), status, request_id="")


_CODES = {code.value[0]: Code(code.name) for code in grpc.StatusCode if code is not grpc.StatusCode.OK}


def _rich(code: Code, status: status_pb2.Status, *, request_id: str) -> MLPlatformError:
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
        remedy=remedy,
        request_id=facts.pop("request_id", "") or request_id,
        violations=[Violation(v.field, v.description) for v in bad.field_violations] if bad else (),
        resource=(resource.resource_type, resource.resource_name) if resource else None,
        retry_after=retry.retry_delay.ToTimedelta().total_seconds() if retry else None,
        metadata=facts,
    )


def _bare(code: Code, details: str, *, url: str, request_id: str) -> MLPlatformError:
    message, remedy = _WITHOUT_DETAILS.get(code, (details or "The call failed.", ""))
    return class_for(code)(
        message.format(url=url) if code in _WITHOUT_DETAILS else message,
        code=code,
        remedy=remedy,
        request_id=request_id,
        metadata={"transport": details} if details else {},
    )


def _code(error: grpc.RpcError) -> Code:
    code = _ask(error, "code")
    return Code(code.name) if isinstance(code, grpc.StatusCode) else Code.UNKNOWN


def _metadata(error: grpc.RpcError) -> dict[str, str | bytes]:
    pairs: Iterable[tuple[str, str | bytes]] = _ask(error, "trailing_metadata") or ()
    return dict(pairs)


def _ask(error: grpc.RpcError, name: str) -> Any:  # noqa: ANN401  # each method has its own type
    # The bare base class has none of these methods; both of gRPC's faces raise subclasses that do.
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
