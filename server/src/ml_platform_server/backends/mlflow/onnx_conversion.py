"""What a deployment's attempt to convert a version to ONNX came to, as the deployment pipeline keeps it in the version's tags."""

from __future__ import annotations

from collections.abc import Mapping

from ml_platform.v1 import models_pb2
from ml_platform.v1.models_pb2 import OnnxConversionState

TAGS = "ml_platform.onnx."

STATES: Mapping[str, OnnxConversionState.ValueType] = {
    "converted": models_pb2.ONNX_CONVERSION_STATE_CONVERTED,
    "not_convertible": models_pb2.ONNX_CONVERSION_STATE_NOT_CONVERTIBLE,
    "output_mismatch": models_pb2.ONNX_CONVERSION_STATE_OUTPUT_MISMATCH,
    "native": models_pb2.ONNX_CONVERSION_STATE_NATIVE,
    "undecided": models_pb2.ONNX_CONVERSION_STATE_UNDECIDED,
}


def read(tags: Mapping[str, str]) -> models_pb2.OnnxConversion | None:
    """What the tags tell; None if nothing was tried. Tags can be edited by hand, so what makes no sense is left out."""
    state = STATES.get(tags.get(f"{TAGS}state", ""))
    if state is None:
        return None
    return models_pb2.OnnxConversion(
        state=state,
        message=tags.get(f"{TAGS}message", ""),
        largest_difference=_number(tags.get(f"{TAGS}largest_difference", "")),
        rows_compared=int(_number(tags.get(f"{TAGS}rows_compared", "")) or 0),
        rows_in_range=int(_number(tags.get(f"{TAGS}rows_in_range", "")) or 0),
        model_uri=tags.get(f"{TAGS}model_uri", ""),
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
