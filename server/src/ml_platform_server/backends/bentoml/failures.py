"""What BentoML's refusals mean in the platform's words. Its own words go to the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server import errors
from ml_platform_server.errors import PlatformError, backend_unavailable, deadline_exceeded

_log = structlog.get_logger(__name__)


def failure_of(response: httpx.Response) -> PlatformError:
    """The error for an answer that is no success."""
    reason, told = _told(response)
    _log.warning("bentoml_refused", status=response.status_code, reason=reason, error=told)
    failure = _BY_REASON.get(reason) or _BY_STATUS.get(response.status_code) or senseless
    return failure()


def overloaded() -> PlatformError:
    """The error for more requests than BentoML takes."""
    return errors.overloaded("More predictions wait for BentoML than it accepts.")


def senseless() -> PlatformError:
    """The error for an answer that is not what the service promises."""
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_FAILED,
        "BentoML gave an answer that makes no sense.",
        remedy="Check that BentoML serves deploy/bentoml of the same release; its log has more.",
        metadata={"backend": "BentoML"},
    )


def _artifact_missing() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        "The files of the model version are gone from the artifact store.",
        remedy="Restore the files, or train, register and deploy the model again.",
    )


def _model_failed() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_FAILED,
        "The model failed, either to load or on these inputs.",
        remedy="Check the inputs against the model's signature and training data; BentoML's log has the model's own words.",
    )


def _told(response: httpx.Response) -> tuple[str, str]:
    try:
        body = response.json()
    except ValueError:
        return "", response.text[:500]
    if not isinstance(body, dict):
        return "", str(body)[:500]
    return str(body.get("reason", "")), str(body.get("error", ""))[:500]


_BY_REASON: Mapping[str, Callable[[], PlatformError]] = {
    "MODEL_ARTIFACT_MISSING": _artifact_missing,
    "MODEL_FAILED": _model_failed,
    "REGISTRY_UNAVAILABLE": lambda: backend_unavailable("MLflow"),
}
_BY_STATUS: Mapping[int, Callable[[], PlatformError]] = {
    httpx.codes.REQUEST_TIMEOUT: lambda: deadline_exceeded("The prediction in BentoML"),
    httpx.codes.TOO_MANY_REQUESTS: overloaded,
    httpx.codes.BAD_GATEWAY: lambda: backend_unavailable("BentoML"),
    httpx.codes.SERVICE_UNAVAILABLE: lambda: backend_unavailable("BentoML"),
    httpx.codes.GATEWAY_TIMEOUT: lambda: deadline_exceeded("The prediction in BentoML"),
}
