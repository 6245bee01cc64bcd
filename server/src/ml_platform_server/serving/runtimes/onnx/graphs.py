"""Which versions have an ONNX graph."""

from __future__ import annotations

from ml_platform.v1 import models_pb2


def is_native(version: models_pb2.ModelVersion) -> bool:
    """Whether a version is an ONNX model itself."""
    return "onnx" in version.flavors


def has_graph(version: models_pb2.ModelVersion) -> bool:
    """Whether there is an ONNX graph that answers for a version: its own, or the one that it was converted to."""
    return is_native(version) or version.onnx_conversion.state == models_pb2.ONNX_CONVERSION_STATE_CONVERTED
