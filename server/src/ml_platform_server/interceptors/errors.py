"""Turns every failure into a rich status. Nothing leaves as UNKNOWN; an internal error shows nothing but its correlation id."""

from __future__ import annotations

import asyncio
from urllib.parse import quote

import structlog

from ml_platform_server.call import CORRELATION_ID_HEADER, Call
from ml_platform_server.errors import PlatformError, Violation, internal_error, to_status
from ml_platform_server.method import Handler, Method, Response

_DETAILS = "grpc-status-details-bin"
# A client refuses trailing metadata of more than 8 KiB, and would then see no error of ours at all. The text travels twice.
_MAX_TEXT = 1200
_MAX_DETAILS = 4500
_MAX_VALUE = 800

_log = structlog.get_logger(__name__)


class Errors:
    """Ends a call that failed with the code, the details and the correlation id that the failure stands for.

    Args:
        ended: what the transport raises when a call is over.
    """

    def __init__(self, *, ended: tuple[type[Exception], ...] = ()) -> None:
        self._ended = ended

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        ended = self._ended

        async def handle(request: object, call: Call) -> Response:
            try:
                return await continuation(request, call)
            except PlatformError as error:
                failure = error
            except ended:
                # The status was sent already, or the connection is gone: nothing can be sent any more.
                raise
            except asyncio.CancelledError:
                if _was_cancelled():
                    raise
                failure = _internal_error(method)
            except Exception:  # noqa: BLE001  # whatever it was, the caller gets a status
                failure = _internal_error(method)
            await end(call, failure)
            return None

        return handle


async def end(call: Call, failure: PlatformError) -> None:
    """End the call with the failure's status. Always raises, as `CallContext.abort` does."""
    call.log_fields["code"] = failure.code.name
    call.log_fields["reason"] = failure.reason_name
    failure = _fitted(failure)
    status = to_status(failure, call.correlation_id)
    while len(status.SerializeToString()) > _MAX_DETAILS and failure.violations:
        failure.violations = failure.violations[: len(failure.violations) // 2]
        status = to_status(failure, call.correlation_id)
    trailing = ((CORRELATION_ID_HEADER, call.correlation_id), (_DETAILS, status.SerializeToString()))
    await call.context.abort(failure.code, status.message, trailing)


def _fitted(failure: PlatformError) -> PlatformError:
    """The failure with a text that fits into a header, where every character but plain ones takes three bytes a byte."""
    failure.message = _cut(failure.message, _MAX_TEXT)
    failure.metadata = {key: _cut(value, _MAX_VALUE) for key, value in failure.metadata.items()}
    failure.violations = tuple(Violation(_cut(v.field, _MAX_VALUE), _cut(v.description, _MAX_VALUE)) for v in failure.violations)
    if failure.resource:
        failure.resource = (failure.resource[0], _cut(failure.resource[1], _MAX_VALUE))
    return failure


def _cut(text: str, longest: int) -> str:
    # Quoting a text takes as long as the text is, and makes it no shorter.
    if len(text) > longest:
        text = text[:longest] + "…"
    while len(quote(text)) > longest:
        text = text[: len(text) * 3 // 4].rstrip() + "…"
    return text


def _was_cancelled() -> bool:
    """Whether this call was cancelled, rather than something that it waited for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _internal_error(method: Method) -> PlatformError:
    _log.exception("call_failed", method=method.full_name)
    return internal_error()
