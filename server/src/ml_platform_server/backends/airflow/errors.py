"""What Airflow's client and the network below it raise, told in the platform's words."""

from __future__ import annotations

import json

import structlog

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, backend_unavailable

log = structlog.get_logger(__name__)

SERVER_ERROR = 500
CREDENTIALS_REFUSED = (401, 403)
"""Airflow answers 403, not 401, to a token that it did not sign."""


class AirflowUnavailableError(PlatformError):
    """Airflow does not answer. `may_have_arrived` tells whether Airflow may yet have done what it was asked."""

    def __init__(self, *, may_have_arrived: bool) -> None:
        unavailable = backend_unavailable("Airflow")
        super().__init__(
            unavailable.reason,
            unavailable.message,
            remedy=unavailable.remedy,
            retry_after=unavailable.retry_after,
            metadata=unavailable.metadata,
        )
        self.may_have_arrived = may_have_arrived


class AirflowHTTPError(PlatformError):
    """Airflow answers, and the answer is no. `status` is HTTP's; `detail` is Airflow's own text, never shown to a caller."""

    def __init__(self, status: int, detail: str) -> None:
        if status in CREDENTIALS_REFUSED:
            message = "Airflow does not accept the server's credentials."
            remedy = "Ask the operator of this server to check its settings airflow.username and airflow.password."
        else:
            message = f"Airflow refuses a request of the server (HTTP {status})."
            remedy = "Ask the operator of this server; its log has the details."
        super().__init__(errors_pb2.ERROR_REASON_BACKEND_FAILED, message, remedy=remedy, metadata={"backend": "Airflow"})
        self.status = status
        self.detail = detail


def translate(error: Exception) -> PlatformError:
    """Turn what a call through Airflow's client raised into an error of ours; the vendor's text goes to the log."""
    from airflow_client.client.exceptions import ApiException  # noqa: PLC0415  # loaded only where the client already is
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    if isinstance(error, HTTPError):
        log.warning("airflow_unanswered", error=str(error))
        return AirflowUnavailableError(may_have_arrived=not _never_connected(error))
    if isinstance(error, ApiException) and error.status:
        return refusal(error.status, str(error.body or ""))
    log.warning("airflow_answer_not_understood", error=repr(error))
    return PlatformError(
        errors_pb2.ERROR_REASON_BACKEND_FAILED,
        "Airflow gives an answer that the server does not understand.",
        remedy="Ask the operator of this server whether its Airflow is of a supported version (3.x); the log has the details.",
        metadata={"backend": "Airflow"},
    )


def refusal(status: int, body: str) -> PlatformError:
    """The error for an HTTP status that is not a success."""
    if status >= SERVER_ERROR:
        log.warning("airflow_failed", status=status, body=body[:2000])
        return AirflowUnavailableError(may_have_arrived=True)
    log.debug("airflow_refused", status=status, body=body[:2000])
    return AirflowHTTPError(status, _detail(body))


def _never_connected(error: Exception) -> bool:
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError  # noqa: PLC0415

    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, (NewConnectionError, ConnectTimeoutError))


def _detail(body: str) -> str:
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body
    return detail if isinstance(detail, str) else json.dumps(detail)
