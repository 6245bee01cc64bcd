"""The reply to a prediction request."""

from __future__ import annotations

import itertools
import secrets
from datetime import UTC, datetime

from ml_platform.v1 import features_pb2, predictions_pb2
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.outputs import encode
from ml_platform_server.serving.outputs.prediction import Prediction
from ml_platform_server.serving.routing.router import ServedVersion
from ml_platform_server.struct_values import to_feature_value

# What makes the prediction ids of this process its own; the rest of an id is counted.
_PROCESS = secrets.token_hex(8)
_COUNT = itertools.count(1)


# The tag of the first field of a PredictResponse, and how long an id is.
_PREDICTION_ID = b"\x0a\x20"


def new_prediction_id() -> str:
    """An id that no other prediction has, 32 hexadecimal digits."""
    return f"{_PROCESS}{next(_COUNT):016x}"


def encoded(served: ServedVersion, row: Row, answer: Prediction, prediction_id: str, *, include_features: bool) -> bytes:
    """Say what the model answered, and who answered: a PredictResponse on the wire, its fields in the order of their numbers."""
    encoded_response = b"".join(
        (_PREDICTION_ID, prediction_id.encode(), served.response_prefix, answer.encoded or encode.encoded(answer))
    )
    if not (include_features or row.degraded or row.unused):
        return encoded_response
    features = features_of(served, row) if include_features else ()
    # Messages on the wire may be put one behind the other: the fields of both count.
    more = predictions_pb2.PredictResponse(features=features, degraded_features=row.degraded, unused_inputs=row.unused)
    return encoded_response + more.SerializeToString()


def features_of(served: ServedVersion, row: Row) -> list[features_pb2.FeatureValue]:
    """Every feature that is a column of the model, in the order of the columns."""
    binding = served.model.enrichment.binding
    if binding is None:
        return []
    messages = []
    for column in sorted(binding.features):
        feature = binding.feature(column)
        value = features_pb2.FeatureValue(feature_view=feature.view, name=feature.name, value_type=feature.value_type)
        cell = row.cells.get(column)
        if cell is None:
            value.value.CopyFrom(to_feature_value(row.values[column]))
            value.status = features_pb2.FEATURE_STATUS_FROM_REQUEST
        else:
            value.value.CopyFrom(to_feature_value(cell.value))
            value.status = cell.status
            if cell.event_time is not None:
                value.event_time.FromDatetime(datetime.fromtimestamp(cell.event_time, UTC))
        messages.append(value)
    return messages
