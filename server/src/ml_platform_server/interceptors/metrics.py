"""Finds the recorder that counts the calls of a method. The access log reports each call to it."""

from __future__ import annotations

from ml_platform.v1 import auth_pb2
from ml_platform_server.method import Method
from ml_platform_server.observability.recorders import UNKNOWN_METHOD, CallMetrics, CallRecorder

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


def recorder_of(metrics: CallMetrics, method: Method) -> CallRecorder:
    """The recorder of a method's calls. All methods that do not exist, whatever callers call them, have one together."""
    unknown = method.scope == auth_pb2.SCOPE_UNSPECIFIED
    name = UNKNOWN_METHOD if unknown else method.full_name
    return metrics.for_method(name, _TYPES[method.client_streaming, method.server_streaming])
