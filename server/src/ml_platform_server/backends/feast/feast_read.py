"""Reads from the online store. Imports Feast: only for the pool."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from feast import FeatureStore
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus, GetOnlineFeaturesResponse

from ml_platform.v1 import features_pb2
from ml_platform_server.backends.feast import errors
from ml_platform_server.backends.feast.plan import NEVER_WRITTEN, OTHER_TYPE, Cell, OnlinePlan, PlannedFeature
from ml_platform_server.backends.feast.types import from_feast

Vector = GetOnlineFeaturesResponse.FeatureVector


def read(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
    """One list of cells a row, aligned with the plan's features.

    Raises:
        PlatformError: FEATURE_NOT_FOUND if the features have changed since they were planned.
    """
    try:
        return _read(store, plan, rows)
    except KeyError:  # Feast's word for a feature that its view has no more.
        raise errors.plan_outdated() from None


def _read(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> list[list[Cell]]:
    # Inputs first: a value that is computed from newer ones than these at most looks older than it is.
    inputs = _inputs(store, plan.inputs, rows) if plan.inputs is not None else {}
    answer = _ask(store, plan, rows)
    now = time.time()
    vectors = [
        _stored(answer[feature.column], feature, plan.max_ages.get(feature.view), now)
        if feature.inputs is None
        else _computed(answer[feature.column], [inputs[each.column] for each in feature.inputs])
        for feature in plan.features
    ]
    return [list(row) for row in zip(*vectors, strict=True)]


def _ask(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> Mapping[str, Vector]:
    """Feast's answer, by the names of its columns."""
    columns = {key.name: [row[key.name] for row in rows] for key in plan.join_keys}
    # Features without an entity still need to know how many rows there are.
    keys = columns or {DUMMY_ENTITY_ID: [DUMMY_ENTITY_VAL] * len(rows)}
    answer = store.get_online_features(features=plan.source, entity_rows=keys, full_feature_names=True).proto
    return dict(zip(answer.metadata.feature_names.val, answer.results, strict=True))


def _stored(vector: Vector, feature: PlannedFeature, max_age: float | None, now: float) -> list[Cell]:
    oldest = now - max_age if max_age else -math.inf
    return [
        _cell(from_feast(value, feature.stored_as), status, moment, oldest)
        for value, status, moment in zip(vector.values, vector.statuses, _moments(vector), strict=True)
    ]


def _moments(vector: Vector) -> list[float]:
    return [moment.seconds + moment.nanos / 1e9 for moment in vector.event_timestamps] or [0.0] * len(vector.values)


def _cell(plain: object | None, status: int, moment: float, oldest: float) -> Cell:
    """Feast leaves to its caller what it says it does: Redis calls an unknown entity present, and no store looks at the age.

    An entity that is unknown to Redis has the time 0. So has a value of that time, but a missing one cannot be told from none.
    """
    if plain is OTHER_TYPE:
        return NEVER_WRITTEN
    if plain is None:
        known = moment and status != FieldStatus.NOT_FOUND
        return Cell(None, features_pb2.FEATURE_STATUS_NULL_VALUE, moment) if known else NEVER_WRITTEN
    old = moment < oldest
    return Cell(plain, features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE if old else features_pb2.FEATURE_STATUS_PRESENT, moment)


class _Input(NamedTuple):
    """What an input lends to the values that are computed from it.

    `moment` is 0 if its entity is unknown; `old` goes by its time alone, for a missing input has an age too.
    """

    moment: float
    old: bool
    of_other_type: bool


def _inputs(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Mapping[str, object]]) -> dict[str, list[_Input]]:
    answer, now, found = _ask(store, plan, rows), time.time(), {}
    for feature in plan.features:
        vector, max_age = answer[feature.column], plan.max_ages.get(feature.view)
        oldest = now - max_age if max_age else -math.inf
        plain = [from_feast(value, feature.stored_as) for value in vector.values]
        found[feature.column] = [
            _Input(moment, bool(moment or each is not None) and moment < oldest, each is OTHER_TYPE)
            for moment, each in zip(_moments(vector), plain, strict=True)
        ]
    return found


def _computed(vector: Vector, inputs: Sequence[Sequence[_Input]]) -> list[Cell]:
    rows = list(zip(*inputs, strict=True)) or [()] * len(vector.values)
    return [_computed_cell(from_feast(value), row) for value, row in zip(vector.values, rows, strict=True)]


def _computed_cell(plain: object | None, inputs: Sequence[_Input]) -> Cell:
    """A value that is as old as the oldest input that has an age; Feast calls each present, and gives it no time."""
    if any(each.of_other_type for each in inputs):
        return NEVER_WRITTEN
    times = [each.moment for each in inputs if each.moment]
    event_time = min(times, default=None)
    if plain is None:
        known = len(times) == len(inputs)
        return Cell(None, features_pb2.FEATURE_STATUS_NULL_VALUE, event_time) if known else NEVER_WRITTEN
    old = any(each.old for each in inputs)
    return Cell(plain, features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE if old else features_pb2.FEATURE_STATUS_PRESENT, event_time)
