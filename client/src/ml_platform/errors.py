"""Everything the client raises.

MLPlatformError                 every failure of a call; catch this one to catch them all
 +-- InvalidArgument            a field breaks a rule; also a ValueError
 |    +-- ConfigurationError    the client itself is set up wrongly
 +-- Unauthenticated            no API key, or not a valid one
 +-- PermissionDenied           the key lacks the scope
 +-- NotFound                   what was named does not exist
 +-- AlreadyExists              the name is taken
 +-- FailedPrecondition         the state of things does not allow it
 +-- Aborted                    another call is in the way
 +-- ResourceExhausted          too much is asked for at once
 +-- Unavailable                the platform, or a system behind it, does not answer
 +-- DeadlineExceeded           it took too long; also a TimeoutError
 +-- Cancelled                  the call was cancelled
 +-- Unimplemented              the server does not know the method
 +-- Internal                   the platform failed in a way it did not foresee
 +-- JobFailed                  a job that was waited for failed; says which task and why
"""

# ruff: noqa: N818  # named after gRPC's codes, as callers know them

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from ml_platform.resources.jobs import Job


class Code(StrEnum):
    """The canonical codes of gRPC, as text: `error.code == "NOT_FOUND"`."""

    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    UNIMPLEMENTED = "UNIMPLEMENTED"
    INTERNAL = "INTERNAL"
    UNAVAILABLE = "UNAVAILABLE"
    DATA_LOSS = "DATA_LOSS"
    UNAUTHENTICATED = "UNAUTHENTICATED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks a rule: its path in the request, and what is wrong with it."""

    field: str
    description: str


class MLPlatformError(Exception):
    """A call that failed.

    Attributes:
        message: what failed and why.
        code: the canonical code.
        reason: the value to branch on, "EXPERIMENT_NOT_FOUND" for instance; empty where the server gave none.
        remedy: what can be done about it.
        correlation_id: what to quote when asking for help; the server's log has it too. Empty if nothing was sent.
        violations: the fields at fault.
        resource: kind and name of what is missing or in the way, if the server told.
        retry_after: seconds after which a retry may help, if the server told.
        metadata: more for programs.
    """

    default_code: ClassVar[Code] = Code.UNKNOWN

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        reason: str = "",
        remedy: str = "",
        correlation_id: str = "",
        violations: Sequence[Violation] = (),
        resource: tuple[str, str] | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.reason = reason
        self.remedy = remedy
        self.correlation_id = correlation_id
        self.violations = tuple(violations)
        self.resource = resource
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        """What failed, which fields, what to do, and what to quote."""
        untold = [f"{v.field}: {v.description}" for v in self.violations if v.description not in self.message]
        marks = [self.reason or self.code, f"correlation id {self.correlation_id}" if self.correlation_id else ""]
        parts = [self.message, "; ".join(untold), self.remedy, f"({', '.join(mark for mark in marks if mark)})"]
        return " ".join(part for part in parts if part)


class InvalidArgument(MLPlatformError, ValueError):
    """A field breaks a rule. `violations` lists the fields."""

    default_code = Code.INVALID_ARGUMENT


class Unauthenticated(MLPlatformError):
    """The call brought no API key, or one that is malformed, unknown, expired or revoked."""

    default_code = Code.UNAUTHENTICATED


class PermissionDenied(MLPlatformError):
    """The API key lacks the scope that the call needs."""

    default_code = Code.PERMISSION_DENIED


class NotFound(MLPlatformError):
    """What was named does not exist."""

    default_code = Code.NOT_FOUND


class AlreadyExists(MLPlatformError):
    """The name is taken."""

    default_code = Code.ALREADY_EXISTS


class FailedPrecondition(MLPlatformError):
    """The state of things does not allow the call: a run without a model, a model that is not deployed."""

    default_code = Code.FAILED_PRECONDITION


class Aborted(MLPlatformError):
    """Another call is in the way, one with the same request id for instance."""

    default_code = Code.ABORTED


class ResourceExhausted(MLPlatformError):
    """More is asked for than the platform accepts."""

    default_code = Code.RESOURCE_EXHAUSTED


class Unavailable(MLPlatformError):
    """The platform, or a system behind it, does not answer. The client has tried again already."""

    default_code = Code.UNAVAILABLE


class DeadlineExceeded(MLPlatformError, TimeoutError):
    """It was not done in time."""

    default_code = Code.DEADLINE_EXCEEDED


class Cancelled(MLPlatformError):
    """The call was cancelled before it was done."""

    default_code = Code.CANCELLED


class Unimplemented(MLPlatformError):
    """The server does not know the method: it is older than this client, or something else listens at the address."""

    default_code = Code.UNIMPLEMENTED


class Internal(MLPlatformError):
    """The platform failed in a way it did not foresee. Its log has the details under the correlation id."""

    default_code = Code.INTERNAL


class JobFailed(MLPlatformError):
    """A job that was waited for failed.

    Attributes:
        job: the job as it ended; None if only its failure is known.
        task: the task that failed; empty if none did.
    """

    default_code = Code.FAILED_PRECONDITION

    def __init__(self, message: str, *, job: Job | None = None, task: str = "", remedy: str = "") -> None:
        super().__init__(message, reason="JOB_FAILED", remedy=remedy)
        self.job = job
        self.task = task


class ConfigurationError(InvalidArgument):
    """The client is set up wrongly: no address, a bad address, a missing extra."""


_BY_CODE: Mapping[Code, type[MLPlatformError]] = {
    kind.default_code: kind
    for kind in (
        InvalidArgument,
        Unauthenticated,
        PermissionDenied,
        NotFound,
        AlreadyExists,
        FailedPrecondition,
        Aborted,
        ResourceExhausted,
        Unavailable,
        DeadlineExceeded,
        Cancelled,
        Unimplemented,
        Internal,
    )
} | {Code.OUT_OF_RANGE: InvalidArgument, Code.DATA_LOSS: Internal}


def class_for(code: Code) -> type[MLPlatformError]:
    """The class of error that stands for a code."""
    return _BY_CODE.get(code, MLPlatformError)


def invalid(field: str, description: str) -> InvalidArgument:
    """The error for an argument that breaks a rule before anything is sent."""
    return InvalidArgument(
        f"{field}: {description}.",
        reason="INVALID_FIELDS",
        remedy="Correct the argument and call again.",
        violations=[Violation(field, description)],
    )
