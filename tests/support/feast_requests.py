"""Requests about features, written shortly, and answers, read shortly."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from google.protobuf import json_format

from ml_platform.v1 import features_pb2 as pb

PRESENT, NULL, UNKNOWN, OLD = (
    pb.FEATURE_STATUS_PRESENT,
    pb.FEATURE_STATUS_NULL_VALUE,
    pb.FEATURE_STATUS_NOT_FOUND,
    pb.FEATURE_STATUS_OUTSIDE_MAX_AGE,
)
_numbers = count()


def user_view(**changes: object) -> pb.FeatureView:
    """A view of users under a name of its own, as a request holds it."""
    view = {
        "name": f"users_{next(_numbers)}",
        "entities": [{"name": "user", "join_key": "user_id"}],
        "features": [
            {"name": "total", "value_type": "VALUE_TYPE_INT64", "description": "how many"},
            {"name": "average", "value_type": "VALUE_TYPE_DOUBLE"},
        ],
        "ttl": "86400s",
        "source": {"path": "users.parquet", "timestamp_field": "event_timestamp"},
        "tags": {"team": "risk"},
        "description": "what users do",
    }
    return json_format.ParseDict({**view, **changes}, pb.FeatureView())


def pushed(view: str, *rows: Mapping[str, object], at: str = "") -> pb.PushFeaturesRequest:
    """Rows to push to a view, all at one time."""
    event_time = {"event_time": at} if at else {}
    return json_format.ParseDict(
        {"feature_view": view, "rows": [{"values": row, **event_time} for row in rows]}, pb.PushFeaturesRequest()
    )


def asked(entities: list[object], features: list[str] | None = None, service: str = "") -> pb.GetOnlineFeaturesRequest:
    """Features of entities, each given by its id or by its keys."""
    rows = [{"entity_id": entity} if isinstance(entity, str) else {"keys": entity} for entity in entities]
    return json_format.ParseDict(
        {"features": features or [], "feature_service": service, "entities": rows}, pb.GetOnlineFeaturesRequest()
    )


def told(response: pb.GetOnlineFeaturesResponse) -> list[list[tuple[object, int]]]:
    """The values and statuses of each vector."""
    return [
        [(json_format.MessageToDict(feature.value), feature.status) for feature in vector.features] for vector in response.vectors
    ]
