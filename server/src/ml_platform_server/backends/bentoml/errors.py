"""What BentoML's refusals mean in the platform's words. Its own words go to the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server import errors
from ml_platform_server.errors import PlatformError, Violation, backend_unavailable, deadline_exceeded, sentence

_log = structlog.get_logger(__name__)


_ABOUT_ROWS = ("MODEL_FAILED", "INPUT_REJECTED", "INPUT_INVALID")


class BentomlHTTPError(Exception):
    """What BentoML said, for the log."""


def failure_of(response: httpx.Response, *, model: str = "") -> PlatformError:
    """The error for a response that is no success; `model` is the model's name and version: "fraud/3"."""
    body = {**_body(response), "model": model}
    reason = body.get("reason", "")
    if reason in _ABOUT_ROWS and body.get("stage") != "load":
        # One row of a batch may be to blame. Whoever looks for it logs what came of that, in one line.
        failure = _BY_REASON[reason](body)
        failure.__cause__ = BentomlHTTPError(body)
        return failure
    _log.warning("bentoml_refused", status=response.status_code, **body)
    if (error := _BY_REASON.get(reason)) is not None:
        return error(body)
    return (_BY_STATUS.get(response.status_code) or invalid_response)()


def overloaded() -> PlatformError:
    """The error for more requests than BentoML takes."""
    return errors.overloaded("More predictions wait for BentoML than it accepts.")


def invalid_response() -> PlatformError:
    """The error for an answer that is not what the service promises."""
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_FAILED,
        "BentoML gave an answer that makes no sense.",
        remedy="Check that BentoML serves deploy/bentoml of the same release; its log has more.",
        metadata={"backend": "BentoML"},
    )


def _artifact_missing(body: Mapping[str, str]) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        "The files of the model version are gone from the artifact store.",
        remedy="Restore the files, or train, register and deploy the model again.",
        resource=("model version", body["model"]),
    )


def _artifact_unreadable(body: Mapping[str, str]) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_UNREADABLE,
        "BentoML cannot read the files of the model version.",
        remedy="Try again later. If it goes on, tell whoever runs the platform: BentoML's log has the cause.",
        resource=("model version", body["model"]),
    )


def _model_failed(body: Mapping[str, str]) -> PlatformError:
    cause, loading = body.get("cause", ""), body.get("stage") == "load"
    what = "The model cannot be loaded" if loading else "The model failed on these inputs"
    check = (
        "Check that BentoML has the packages that the model needs"
        if loading
        else "Check the inputs against the model's signature and training data"
    )
    rejected = body.get("reason") == "INPUT_REJECTED"
    return PlatformError(
        errors_pb2.ERROR_REASON_INPUT_REJECTED if rejected else errors_pb2.ERROR_REASON_MODEL_FAILED,
        sentence(f"{what}: {cause}" if cause else what),
        remedy=f"{check}; BentoML's log has the model's own words.",
        metadata={name: body[name] for name in ("cause", "stage") if name in body},
    )


def _input_invalid(body: Mapping[str, str]) -> PlatformError:
    field, problem = f"inputs.{body.get('column', '')}", body.get("error", "")
    return PlatformError(
        errors_pb2.ERROR_REASON_INPUT_INVALID,
        sentence(f"The inputs do not fit the model: {field}: {problem}"),
        remedy="Send values of the types in the model's signature (ModelService.GetModelVersion tells it).",
        violations=[Violation(field, problem)],
    )


def _body(response: httpx.Response) -> dict[str, str]:
    """What a refusal says, by name; each text is bounded, as it is somebody else's."""
    try:
        body = response.json()
    except ValueError:
        return {"error": response.text[:500]}
    if not isinstance(body, dict):
        return {"error": str(body)[:500]}
    return {name: str(body[name])[:500] for name in ("reason", "error", "cause", "stage", "column") if name in body}


_BY_REASON: Mapping[str, Callable[[Mapping[str, str]], PlatformError]] = {
    "MODEL_ARTIFACT_MISSING": _artifact_missing,
    "MODEL_ARTIFACT_UNREADABLE": _artifact_unreadable,
    "MODEL_FAILED": _model_failed,
    "INPUT_REJECTED": _model_failed,
    "DEADLINE_EXCEEDED": lambda _: deadline_exceeded("The prediction in BentoML"),
    "INPUT_INVALID": _input_invalid,
    "REGISTRY_UNAVAILABLE": lambda _: backend_unavailable("MLflow"),
}
_BY_STATUS: Mapping[int, Callable[[], PlatformError]] = {
    httpx.codes.REQUEST_TIMEOUT: lambda: deadline_exceeded("The prediction in BentoML"),
    httpx.codes.TOO_MANY_REQUESTS: overloaded,
    httpx.codes.BAD_GATEWAY: lambda: backend_unavailable("BentoML"),
    httpx.codes.SERVICE_UNAVAILABLE: lambda: backend_unavailable("BentoML"),
    httpx.codes.GATEWAY_TIMEOUT: lambda: deadline_exceeded("The prediction in BentoML"),
}
