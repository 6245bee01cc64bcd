"""What all replies to batches share."""

from __future__ import annotations

from ml_platform_server import protobuf_encoding
from ml_platform_server.errors import PlatformError, Violation, to_status
from ml_platform_server.response_limit import too_large
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.turns import Turn

_Key = tuple[int, str, str, tuple[Violation, ...], tuple[tuple[str, str], ...], float | None]


class RowErrors:
    """Packs the errors of rows. Rows that share an error, or have the same one, share the work too.

    Attributes:
        turn: how long this has been done without a break.
    """

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._encoded: dict[_Key, bytes] = {}
        self._last: tuple[PlatformError | None, bytes] = (None, b"")
        self.turn = Turn()

    def encoded(self, error: PlatformError) -> bytes:
        """The error as field 2 on the wire: the `error` of a RowResult and of a RowError."""
        if error is self._last[0]:  # its key may take long to make: an error may name fifty columns
            return self._last[1]
        key = _key(error)
        if key not in self._encoded:
            self._encoded[key] = protobuf_encoding.field(b"\x12", to_status(error, self._request_id).SerializeToString())
        self._last = (error, self._encoded[key])
        return self._encoded[key]


def _key(error: PlatformError) -> _Key:
    """What makes two errors the same to whoever reads them."""
    metadata = tuple(error.metadata.items())
    return error.reason, error.message, error.remedy, tuple(error.violations), metadata, error.retry_after


class ResponseParts:
    """The parts of a response on the wire. It grows no further than its client takes: the rest would be made for nothing.

    Args:
        limit: bytes that the response may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def append(self, part: bytes) -> None:
        """Add a part.

        Raises:
            PlatformError: REPLY_TOO_LARGE.
        """
        self._parts.append(part)
        self._size += len(part)
        if self._size > self._limit:
            raise too_large(self._size, self._limit, unfinished=True)

    def joined(self) -> bytes:
        """The response so far."""
        return b"".join(self._parts)


def response_prefix(served: ServedVersion, prediction_id: str) -> bytes:
    """The response so far, on the wire: who answers. These fields have the same numbers as in a PredictResponse."""
    return protobuf_encoding.field(b"\x0a", prediction_id.encode()) + served.response_prefix
