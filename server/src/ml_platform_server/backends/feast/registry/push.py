"""Writes rows straight into the online store. Imports Feast: only for the pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from feast import FeatureStore, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from ml_platform.v1 import errors_pb2, features_pb2
from ml_platform_server.backends.feast import errors, keys
from ml_platform_server.backends.feast.keys import Column
from ml_platform_server.backends.feast.registry import register
from ml_platform_server.backends.feast.types import to_feast
from ml_platform_server.backends.feast.writes import conditional
from ml_platform_server.backends.feast.writes.rows import FeastRow
from ml_platform_server.errors import PlatformError, Violation, invalid
from ml_platform_server.struct_values import plain_fields

# Clocks differ; a time further ahead is a mistake, after which the store would drop every true value as older.
AHEAD = timedelta(days=1)
# Nobody corrects more at once.
MOST_VIOLATIONS = 50


def push(store: FeatureStore, request: features_pb2.PushFeaturesRequest) -> features_pb2.PushFeaturesResponse:
    """Write the rows, all or none as far as they can be checked. The response counts the rows that are in the store afterwards.

    The rows go to the store in Feast's own form, not by a data frame: that would turn an integer beside a missing one into a
    float, and drop a row whose features are all missing.

    Raises:
        PlatformError: FEATURE_VIEW_NOT_FOUND, FEATURE_NOT_FOUND, ENTITY_MISMATCH, FEATURE_VALUE_INVALID, INVALID_FIELDS.
    """
    message = register.find(store, request.feature_view)
    view = store.registry.get_any_feature_view(request.feature_view, store.project, allow_cache=True)
    if not isinstance(view, FeatureView):
        raise invalid("feature_view", "this view is computed on demand, so it holds no values")
    now = datetime.now(UTC)
    rows = [_row(message, row, f"rows[{index}]", now) for index, row in enumerate(request.rows)]
    _check_rows(message, request.rows, now)
    written = conditional.write(store, view, rows)
    response = features_pb2.PushFeaturesResponse(row_count=written.count, skipped_count=len(written.skipped))
    for skipped in written.skipped:
        response.skipped_rows.add(index=skipped.index).newer_time.FromDatetime(skipped.newer_time)
    return response


def _check_rows(view: features_pb2.FeatureView, rows: Sequence[features_pb2.FeatureRow], now: datetime) -> None:
    """Refuse rows that would make features look missing, or newer than anything that comes after them.

    The store keeps one time for all features of a row, so what is left out cannot keep its value and its age.
    """
    names = [feature.name for feature in view.features]
    latest = now + AHEAD
    violations: list[Violation] = []
    remedies: dict[str, None] = {}
    for index, row in enumerate(rows):
        absent = [name for name in names if name not in row.values.fields]
        if absent:
            violations.append(Violation(f"rows[{index}].values", f"lacks {', '.join(absent)}"))
            remedies["Send every feature of the view in each row, null for one without a value."] = None
        if row.event_time.ToDatetime(UTC) > latest:
            violations.append(Violation(f"rows[{index}].event_time", "lies more than a day ahead"))
            remedies["Send times that have been."] = None
        if len(violations) >= MOST_VIOLATIONS:
            break
    if violations:
        raise PlatformError(
            errors_pb2.ERROR_REASON_INVALID_FIELDS,
            "; ".join(f"{violation.field} {violation.description}" for violation in violations[:3]) + ".",
            remedy=" ".join(remedies),
            violations=violations,
        )


def _row(view: features_pb2.FeatureView, row: features_pb2.FeatureRow, where: str, now: datetime) -> FeastRow:
    given = plain_fields(row.values)
    join_keys = [Column(entity.join_key, entity.value_type) for entity in view.entities]
    key = keys.key_values(join_keys, given, where)
    features = {name: value for name, value in given.items() if name not in key}
    moment = row.event_time.ToDatetime(UTC) if row.HasField("event_time") else now
    return _entity_key(join_keys, key), _features(view, features, where), moment, None


def _entity_key(columns: list[Column], key: Mapping[str, object]) -> EntityKey:
    if not columns:  # Feast keeps features of no entity under a key that stands for none.
        return EntityKey(join_keys=[DUMMY_ENTITY_ID], entity_values=[Value(string_val=DUMMY_ENTITY_VAL)])
    return EntityKey(
        join_keys=[column.name for column in columns],
        entity_values=[to_feast(key[column.name], column.value_type) for column in columns],
    )


def _features(view: features_pb2.FeatureView, given: Mapping[str, object], where: str) -> dict[str, Value]:
    columns = {feature.name: Column(feature.name, feature.value_type) for feature in view.features}
    unknown = sorted(set(given) - set(columns))
    if unknown:
        raise errors.feature_not_found(view.name, unknown[0], columns)
    fitted = {name: keys.feature_value(column, given.get(name), where) for name, column in columns.items()}
    return {name: to_feast(value, columns[name].value_type) for name, value in fitted.items()}
