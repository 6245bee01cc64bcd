"""Turns whatever MLflow and its artifact stores raise into the platform's errors. The only place that knows their codes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server.backends.paging import page_token_invalid
from ml_platform_server.errors import PlatformError, backend_unavailable

log = structlog.get_logger(__name__)

MISSING = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
EXISTS = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})
INVALID = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
BUSY = frozenset({"TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"})
GONE = frozenset({"404", "NoSuchKey", "NoSuchBucket"})
# By name, because the libraries of the artifact stores (boto3, google-cloud, azure) may not be installed.
UNREACHABLE = frozenset({
    "ConnectionError", "ConnectTimeout", "ReadTimeout", "Timeout", "TimeoutError", "ChunkedEncodingError", "NewConnectionError",
    "MaxRetryError", "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ServiceRequestError",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class ErrorMapping:
    """What the kinds of failure mean for the one who called."""

    missing: PlatformError | None = None
    exists: PlatformError | None = None
    invalid: PlatformError | None = None
    otherwise: PlatformError | None = None


def translate(error: Exception, meanings: ErrorMapping) -> PlatformError:
    """The platform's error for one of MLflow's."""
    code = str(getattr(error, "error_code", ""))
    known = _known(code, str(error), meanings)
    if known is not None:
        log.debug("mlflow_refused", error_code=code, error=str(error))
        return known
    log.warning("mlflow_failed", error_code=code, error_type=type(error).__name__, error=str(error))
    if code in BUSY or _unreachable(error):
        return backend_unavailable("MLflow")
    if meanings.otherwise is None:
        return _failed()
    return meanings.missing if meanings.missing is not None and _says_missing(error) else meanings.otherwise


def says_exists(error: Exception) -> bool:
    """Whether MLflow says that what was to be made is there already."""
    return getattr(error, "error_code", "") in EXISTS


def answered_with_failure(error: BaseException) -> bool:
    """Whether MLflow answered with an HTTP status of 5xx, which its client reports as retries that ran out."""
    return any(kind.__name__ == "RetryError" for each in _chain(error) for kind in type(each).__mro__)


def _known(code: str, text: str, meanings: ErrorMapping) -> PlatformError | None:
    if code in MISSING:
        return meanings.missing
    if code in EXISTS:
        return meanings.exists
    if code in INVALID:
        # MLflow has no code of its own for a bad page token.
        return page_token_invalid() if "page token" in text else meanings.invalid
    return None


def _unreachable(error: BaseException) -> bool:
    """Whether a lost connection is at the root: MLflow wraps those in errors that look like any other."""
    return any(kind.__name__ in UNREACHABLE for each in _chain(error) for kind in type(each).__mro__)


def _says_missing(error: BaseException) -> bool:
    """Whether a file that does not exist is at the root, in the words of a disk, of HTTP or of an object store."""
    for each in _chain(error):
        response = getattr(each, "response", None)
        status = getattr(response, "status_code", getattr(each, "status_code", getattr(each, "code", None)))
        if isinstance(response, Mapping):  # as botocore has it
            status = response.get("Error", {}).get("Code")
        if isinstance(each, FileNotFoundError) or getattr(each, "error_code", "") in MISSING or str(status) in GONE:
            return True
    return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what caused it, and so on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__


def _failed() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_FAILED,
        "MLflow gave an answer that makes no sense.",
        remedy="Quote the request id to whoever runs the platform: the server's log tells what MLflow said.",
        metadata={"backend": "MLflow"},
    )
