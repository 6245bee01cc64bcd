"""The errors that the server returns. The only place where a reason becomes a status code."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from ml_platform.v1 import errors_pb2
from ml_platform.v1.errors_pb2 import ErrorReason
from ml_platform_server.codes import Code

DOMAIN = "mlplatform.io"

CODES: Mapping[ErrorReason.ValueType, Code] = {
    errors_pb2.ERROR_REASON_INTERNAL: Code.INTERNAL,
    errors_pb2.ERROR_REASON_INVALID_FIELDS: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_CREDENTIALS_MISSING: Code.UNAUTHENTICATED,
    errors_pb2.ERROR_REASON_CREDENTIALS_INVALID: Code.UNAUTHENTICATED,
    errors_pb2.ERROR_REASON_SCOPE_MISSING: Code.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED: Code.DEADLINE_EXCEEDED,
    errors_pb2.ERROR_REASON_CANCELLED: Code.CANCELLED,
    errors_pb2.ERROR_REASON_REQUEST_ID_REUSED: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_REQUEST_IN_PROGRESS: Code.ABORTED,
    errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE: Code.UNAVAILABLE,
    errors_pb2.ERROR_REASON_BACKEND_FAILED: Code.INTERNAL,
    errors_pb2.ERROR_REASON_SHUTTING_DOWN: Code.UNAVAILABLE,
    errors_pb2.ERROR_REASON_UNIMPLEMENTED: Code.UNIMPLEMENTED,
    errors_pb2.ERROR_REASON_PAGE_TOKEN_INVALID: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_OVERLOADED: Code.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_REPLY_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_REQUEST_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    errors_pb2.ERROR_REASON_WATCH_EXPIRED: Code.UNAVAILABLE,
    errors_pb2.ERROR_REASON_EXPERIMENT_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_EXPERIMENT_EXISTS: Code.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_EXPERIMENT_DELETED: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_RUN_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_METRIC_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_FILTER_INVALID: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_MODEL_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_MODEL_VERSION_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_RUN_WITHOUT_MODEL: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_AMBIGUOUS: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_WITHOUT_SIGNATURE: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_DEPLOYMENT_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_DEPLOYMENT_IN_PROGRESS: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_NOT_DEPLOYED: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_JOB_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_PIPELINE_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_PIPELINE_BROKEN: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_PIPELINE_NOT_ALLOWED: Code.PERMISSION_DENIED,
    errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_VIEW_EXISTS: Code.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND: Code.NOT_FOUND,
    errors_pb2.ERROR_REASON_ENTITY_MISMATCH: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_ENTITY_EXISTS: Code.ALREADY_EXISTS,
    errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_FEATURE_AMBIGUOUS: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_FEATURE_SOURCE_REFUSED: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_INPUT_MISSING: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_INPUT_INVALID: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_FEATURE_MISSING: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_FAILED: Code.INTERNAL,
    errors_pb2.ERROR_REASON_INPUT_REJECTED: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_FEATURE_STALE: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_FEATURE_POLICY_INVALID: Code.INVALID_ARGUMENT,
    errors_pb2.ERROR_REASON_MODEL_ARTIFACT_UNREADABLE: Code.FAILED_PRECONDITION,
    errors_pb2.ERROR_REASON_MODEL_CACHE_UNAVAILABLE: Code.UNAVAILABLE,
}


MOST_VIOLATIONS = 50
"""Nobody corrects more at once, and a request of a million bad rows must not make a million violations."""

# More than any text of ours has without what callers sent.
_LONGEST_TEXT = 2000


def shortened(text: str) -> str:
    """A text as it may be part of an error: cut where it is too long for one."""
    return text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule: its path in the request, and what is wrong with it."""

    field: str
    description: str


class PlatformError(Exception):
    """A failure that a caller may see. Raise it anywhere; the errors interceptor turns it into a status.

    Args:
        reason: the value programs branch on; it decides the gRPC code.
        message: what failed and why, in a sentence. No vendor's text, no secret.
        remedy: what the caller can do about it, in a sentence.
        violations: the fields at fault, sent as google.rpc.BadRequest.
        resource: kind and name of what is missing or in the way, sent as google.rpc.ResourceInfo.
        retry_after: seconds after which a retry may help, sent as google.rpc.RetryInfo.
        metadata: more for programs, sent in google.rpc.ErrorInfo.
    """

    def __init__(
        self,
        reason: ErrorReason.ValueType,
        message: str,
        *,
        remedy: str,
        violations: Sequence[Violation] = (),
        resource: tuple[str, str] | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        # What callers sent is in these texts, and has no limit of its own.
        self.message = shortened(message)
        super().__init__(self.message)
        self.reason = reason
        self.remedy = remedy
        self.violations = tuple(Violation(shortened(v.field), shortened(v.description)) for v in violations[:MOST_VIOLATIONS])
        self.resource = (resource[0], shortened(resource[1])) if resource else None
        self.retry_after = retry_after
        self.metadata = {key: shortened(value) for key, value in metadata.items()} if metadata else {}

    @property
    def code(self) -> Code:
        """The gRPC status code that the reason stands for."""
        return CODES[self.reason]

    @property
    def reason_name(self) -> str:
        """The reason as programs see it: "EXPERIMENT_NOT_FOUND"."""
        return errors_pb2.ErrorReason.Name(self.reason).removeprefix("ERROR_REASON_")


def invalid(field: str, description: str) -> PlatformError:
    """The error for a single field that breaks a rule that no interceptor can check."""
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        sentence(f"{field}: {description}"),
        remedy="Correct the field and call again.",
        violations=[Violation(field, description)],
    )


def request_id_reused(message: str, *, remedy: str, resource: tuple[str, str] | None = None) -> PlatformError:
    """The error for an idempotency key that stands for another request."""
    return PlatformError(
        errors_pb2.ERROR_REASON_REQUEST_ID_REUSED,
        message,
        remedy=remedy,
        violations=[Violation("request_id", "was used before with other contents")],
        resource=resource,
    )


def sentence(text: str) -> str:
    """A text that may be a vendor's, or end with a question, with a full stop behind it if it ends without."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def backend_unavailable(backend: str, *, retry_after: float = 2.0) -> PlatformError:
    """The error for a backend that does not answer."""
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
        f"{backend} does not answer.",
        remedy=f"Try again shortly. If it goes on, look at {backend} (PlatformService.GetHealth tells how it is).",
        retry_after=retry_after,
        metadata={"backend": backend},
    )


def deadline_exceeded(what: str) -> PlatformError:
    """The error for work that the deadline cut off."""
    return PlatformError(
        errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
        f"{what} was not done before the deadline.",
        remedy="Call again with a longer deadline. A mutating call may be repeated with the same request_id.",
    )


@asynccontextmanager
async def within(seconds: float, what: str) -> AsyncIterator[None]:
    """Limit what is done in the block. Raises DEADLINE_EXCEEDED for `what` when the time is up; infinity is no limit."""
    try:
        async with asyncio.timeout(None if seconds == math.inf else seconds) as limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise deadline_exceeded(what) from None
        raise


def overloaded(message: str) -> PlatformError:
    """The error for more work than is taken at once."""
    return PlatformError(
        errors_pb2.ERROR_REASON_OVERLOADED,
        message,
        remedy="Try again shortly, with fewer calls at once.",
        retry_after=1.0,
    )


def internal_error() -> PlatformError:
    """The error for an unexpected exception. It shows only the correlation id, under which the log has the rest."""
    return PlatformError(
        errors_pb2.ERROR_REASON_INTERNAL,
        "The server failed in a way it did not foresee.",
        remedy="Try again; if it goes on, give the correlation id to whoever runs the server: its log has the details.",
    )


def to_status(error: PlatformError, correlation_id: str) -> status_pb2.Status:
    """Pack an error into the rich status that travels in the trailing metadata (google.rpc.Status, as AIP-193 has it)."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason_name,
        domain=DOMAIN,
        metadata={**error.metadata, "remedy": error.remedy, "correlation_id": correlation_id},
    )
    status = status_pb2.Status(code=error.code.number, message=f"{error.message} {error.remedy}", details=[_packed(info)])
    if error.violations:
        fields = [error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.violations]
        status.details.append(_packed(error_details_pb2.BadRequest(field_violations=fields)))
    if error.resource:
        kind, name = error.resource
        status.details.append(_packed(error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name)))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after * 1e9))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status


def _packed(detail: object) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(detail)  # type: ignore[arg-type]  # google.rpc's classes come without types
    return packed
