"""The reply to a prediction request."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from ml_platform.v1 import features_pb2, predictions_pb2
from ml_platform_server.serving.answers import Answer
from ml_platform_server.serving.router import ServedVersion
from ml_platform_server.serving.rows import Row
from ml_platform_server.values import to_struct, to_value


def reply(served: ServedVersion, row: Row, answer: Answer, *, include_features: bool) -> predictions_pb2.PredictResponse:
    """Say what the model answered, and who answered."""
    version = served.model.version
    return predictions_pb2.PredictResponse(
        prediction_id=uuid.uuid4().hex,
        model_name=version.model_name,
        model_version=version.version,
        deployment_id=served.deployment_id,
        prediction=to_value(answer.prediction),
        probability=answer.probability,
        outputs=to_struct(answer.outputs),
        features=_features(served, row) if include_features else (),
        degraded_features=row.degraded,
    )


def _features(served: ServedVersion, row: Row) -> list[features_pb2.FeatureValue]:
    """Every feature that is a column of the model, in the order of the columns."""
    binding = served.model.enrichment.binding
    if binding is None:
        return []
    told = []
    for column in sorted(binding.features):
        feature = binding.feature(column)
        value = features_pb2.FeatureValue(feature_view=feature.view, name=feature.name)
        cell = row.cells.get(column)
        if cell is None:
            value.value.CopyFrom(to_value(row.values[column]))
            value.status = features_pb2.FEATURE_STATUS_FROM_REQUEST
        else:
            value.value.CopyFrom(to_value(cell.value))
            value.status = cell.status
            if cell.event_time is not None:
                value.event_time.FromDatetime(datetime.fromtimestamp(cell.event_time, UTC))
        told.append(value)
    return told
