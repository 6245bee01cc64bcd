"""Reads from the online store. Imports Feast: only for the pool."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from feast import FeatureStore
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse
from feast.protos.feast.types.Value_pb2 import Value

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast import failures
from ml_platform_server.backends.feast.plans import Cell, OnlinePlan
from ml_platform_server.backends.feast.types import from_feast


def read(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
    """One list of cells a row, aligned with the plan's features.

    Raises:
        PlatformError: FEATURE_NOT_FOUND if the features have changed since they were planned.
    """
    try:
        return _read(store, plan, rows)
    except KeyError:  # Feast's word for a feature that its view has no more.
        raise failures.plan_outdated() from None


def _read(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
    columns = {key.name: [row[key.name] for row in rows] for key in plan.join_keys}
    # Features without an entity still need to know how many rows there are.
    keys = columns or {DUMMY_ENTITY_ID: [DUMMY_ENTITY_VAL] * len(rows)}
    answer = store.get_online_features(features=plan.source, entity_rows=keys, full_feature_names=True).proto
    place = {name: index for index, name in enumerate(answer.metadata.feature_names.val)}
    now = time.time()
    vectors = [_cells(answer.results[place[feature.column]], plan.max_ages.get(feature.view), now) for feature in plan.features]
    return [list(row) for row in zip(*vectors, strict=True)]


def _cells(vector: GetOnlineFeaturesResponse.FeatureVector, max_age: float | None, now: float) -> list[Cell]:
    times = [moment.seconds + moment.nanos / 1e9 for moment in vector.event_timestamps] or [0.0] * len(vector.values)
    oldest = now - max_age if max_age else 0.0
    return [
        _cell(value, status, moment, oldest) for value, status, moment in zip(vector.values, vector.statuses, times, strict=True)
    ]


def _cell(value: Value, status: int, moment: float, oldest: float) -> Cell:
    """Feast leaves to its caller what it says it does: Redis calls an unknown entity present, and no store looks at the age."""
    plain = from_feast(value)
    event_time = moment or None
    if plain is None:
        known = event_time is not None and status != FieldStatus.NOT_FOUND
        return Cell(None, features_pb2.FEATURE_STATUS_NULL_VALUE if known else features_pb2.FEATURE_STATUS_NOT_FOUND, event_time)
    if event_time is not None and event_time < oldest:
        return Cell(plain, features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE, event_time)
    return Cell(plain, features_pb2.FEATURE_STATUS_PRESENT, event_time)
