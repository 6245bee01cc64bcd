"""What all replies to batches share."""

from __future__ import annotations

from google.rpc import status_pb2

from ml_platform_server import wire
from ml_platform_server.errors import PlatformError, to_status
from ml_platform_server.serving.router import ServedVersion


class RowErrors:
    """Packs the errors of rows. Rows that share an error, because a backend was down for all of them, share the work too."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._packed: dict[int, tuple[PlatformError, status_pb2.Status]] = {}

    def status(self, error: PlatformError) -> status_pb2.Status:
        """The error as it would travel with a call."""
        if id(error) not in self._packed:
            # The error is kept with its status, so that no other error takes its id over.
            self._packed[id(error)] = (error, to_status(error, self._request_id))
        return self._packed[id(error)][1]


def head(served: ServedVersion, prediction_id: str) -> bytes:
    """The response so far, on the wire: who answers. These fields have the same numbers as in a PredictResponse."""
    return wire.field(b"\x0a", prediction_id.encode()) + served.head
