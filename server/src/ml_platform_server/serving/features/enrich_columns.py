"""Fills missing columns of a batch with features. Each distinct entity is looked up once; its features go to all of its rows.

The fast path handles whole columns. An entity with a key that is null or of another type, or with a feature that is missing,
stale, or not of its column's type, goes through the enrichment of rows instead. Both paths therefore give the same values and the
same errors.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from google.protobuf import struct_pb2

from ml_platform.v1 import deployments_pb2, errors_pb2, features_pb2
from ml_platform.v1.features_pb2 import FeatureStatus
from ml_platform_server.backends.feast.online import CellColumn
from ml_platform_server.errors import PlatformError
from ml_platform_server.observability.recorders import ModelMetrics
from ml_platform_server.observability.tracing import current
from ml_platform_server.serving.features.binding import Binding
from ml_platform_server.serving.features.column_entities import EntityIndex
from ml_platform_server.serving.inputs.columns import ColumnData, Values, from_array, from_pylist
from ml_platform_server.serving.inputs.convert import convert
from ml_platform_server.serving.inputs.policy import Policy
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.struct_values import to_value

_PERHAPS_OF_SOME_ROWS = frozenset({
    errors_pb2.ERROR_REASON_ENTITY_MISMATCH,
    errors_pb2.ERROR_REASON_FEATURE_VALUE_INVALID,
    errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND,
    errors_pb2.ERROR_REASON_FEATURE_SERVICE_NOT_FOUND,
})  # fmt: skip
"""Errors of a read by columns after which reading by rows may succeed: for some rows, or with the current registry."""

Read = Callable[[Binding, Mapping[str, Sequence[object]], int], Awaitable[list[CellColumn]]]
Enrich = Callable[[Sequence[Row]], Awaitable[Sequence[PlatformError | None]]]


@dataclass(slots=True)
class EnrichedColumns:
    """The result for a batch of N rows.

    Attributes:
        values: per column position, N values.
        errors: per row position, the error of the row.
        degraded: per row position, the features that the row was predicted without, as "view:feature".
    """

    values: dict[int, Values]
    errors: dict[int, PlatformError] = field(default_factory=dict)
    degraded: dict[int, Sequence[str]] = field(default_factory=dict)


class ColumnFeatures:
    """Fills the missing columns of batches for one deployment.

    Args:
        columns: the columns of the model.
        read: reads the features of a binding for many entities.
        enrich: fills rows in place and returns an error or None for each.
        policy: the feature policy of the deployment.
        metrics: records the durations of reads and the statuses of features.
    """

    def __init__(self, *, columns: Sequence[Column], read: Read, enrich: Enrich, policy: Policy, metrics: ModelMetrics) -> None:
        self._columns = columns
        self._read = read
        self._enrich = enrich
        self._policy = policy
        self._metrics = metrics

    async def complete(
        self, sent: Mapping[str, ColumnData], rows: int, missing: Sequence[int], binding: Binding | None
    ) -> EnrichedColumns:
        """Fill the columns that were not sent. Errors are returned per row.

        Args:
            sent: the batch, or a part of it, by column name.
            rows: number of rows in it.
            missing: positions of the model's columns that were not sent under any name.
            binding: the columns that features supply; None if that is unknown, or if there are none.
        """
        keys = [key for key in binding.plan.join_keys if key.name in sent] if binding else []
        entities = EntityIndex(keys, [sent[key.name] for key in keys], rows)
        read: dict[int, Values] = {}
        failed: dict[int, PlatformError] = {}
        unusual: Sequence[int] = range(entities.count)
        if binding and len(keys) == len(binding.plan.join_keys) and self._readable(missing, binding):
            unusual, read, failed = await self._features(binding, entities, missing)
        if not unusual and not failed:
            return EnrichedColumns({column: entities.spread(read[column]) for column in missing})
        return await self._singly(entities, missing, unusual, read, failed=failed, names=list(sent))

    def _readable(self, missing: Sequence[int], binding: Binding) -> bool:
        """Whether features can complete a row: they supply a missing column, and every required one."""
        others = [column for column in missing if column not in binding.features]
        return len(others) < len(missing) and not any(self._columns[column].required for column in others)

    async def _features(
        self, binding: Binding, entities: EntityIndex, missing: Sequence[int]
    ) -> tuple[Sequence[int], dict[int, Values], dict[int, PlatformError]]:
        """Read the features of the entities that the fast path can handle.

        Returns:
            The positions of all other entities; per missing column, one value per entity; the errors by entity position.
        """
        unusual = entities.unusual()
        if len(unusual) == entities.count:
            return range(entities.count), {}, {}
        usual = [at for at in range(entities.count) if at not in unusual] if unusual else range(entities.count)
        trace, started = current.get(), time.perf_counter()
        try:
            cells = await self._read(binding, entities.keyed(usual), len(usual))
        except PlatformError as error:
            if error.reason in _PERHAPS_OF_SOME_ROWS:
                return range(entities.count), {}, {}
            # The store is unavailable. Reading the same entities again by rows would cost the same and fail again.
            return sorted(unusual), {}, dict.fromkeys(usual, error)
        ended = time.perf_counter()
        self._metrics.feature_read.record(ended - started)
        if trace is not None:
            trace.add_child_span("feature read", started, ended, {"rows": len(usual)})
        found: dict[int, Values] = {}
        for column in missing:
            place = binding.features.get(column)
            if place is None:
                found[column] = [None] * entities.count
                continue
            values, doubtful = self._column(column, cells[place])
            unusual.update(usual[at] for at in doubtful)
            found[column] = values if len(usual) == entities.count else _placed(values, usual, entities.count)
        return sorted(unusual), found, {}

    def _column(self, column: int, cells: CellColumn) -> tuple[Values, set[int]]:
        """Convert one column of cells. Returns the values and the positions of the cells that need the enrichment of rows."""
        fitting, statuses = self._fitting(column), cells.statuses
        found = set(statuses)
        doubtful = set() if fitting >= found else {at for at, one in enumerate(statuses) if one not in fitting}
        for status in found & fitting:  # the enrichment of rows counts the others
            count = len(statuses) if len(found) == 1 else statuses.count(status)
            self._metrics.feature_status(FeatureStatus.Name(FeatureStatus.ValueType(status)), count)
        values = cells.values
        converted = convert(self._columns[column], from_array(values) if isinstance(values, np.ndarray) else from_pylist(values))
        doubtful.update(converted.bad)
        return converted.values, doubtful

    def _fitting(self, column: int) -> set[int]:
        """The statuses for which the policy accepts the cell's value, or null, as it is."""
        policy = self._policy
        fitting = {int(features_pb2.FEATURE_STATUS_PRESENT)}
        if policy.stale == deployments_pb2.STALE_FEATURES_USE:
            fitting.add(features_pb2.FEATURE_STATUS_OUTSIDE_MAX_AGE)
        if policy.missing == deployments_pb2.MISSING_FEATURES_NULL_OR_FAIL and column not in policy.defaults:
            fitting.update((features_pb2.FEATURE_STATUS_NOT_FOUND, features_pb2.FEATURE_STATUS_NULL_VALUE))
        return fitting

    async def _singly(
        self,
        entities: EntityIndex,
        missing: Sequence[int],
        unusual: Sequence[int],
        read: Mapping[int, Values],
        *,
        failed: Mapping[int, PlatformError],
        names: Sequence[str],
    ) -> EnrichedColumns:
        """Complete the entities at `unusual` as rows. Entities in `failed` keep their errors."""
        listed = {column: _listed(read.get(column), entities.count) for column in missing}
        rows = [self._row(entity, missing, names) for entity in entities.named(unusual)]
        errors = dict(failed)
        degraded: dict[int, Sequence[str]] = {}
        for at, row, error in zip(unusual, rows, await self._enrich(rows), strict=True):
            if error is not None:
                errors[at] = error
            elif row.degraded:
                degraded[at] = row.degraded
            for column, values in listed.items():
                values[at] = row.values[column] if error is None else None
        return EnrichedColumns(
            {column: entities.spread(_typed(values, errors)) for column, values in listed.items()},
            entities.spread_some(errors),
            entities.spread_some(degraded),
        )

    def _row(self, entity: Mapping[str, object], missing: Sequence[int], names: Sequence[str]) -> Row:
        fields = {name: _value(value) for name, value in entity.items()}
        return Row(fields, [None] * len(self._columns), list(missing), names, policy=self._policy)


def _value(value: object) -> struct_pb2.Value:
    """A key encoded as in a request, NaN and infinity included."""
    return struct_pb2.Value(number_value=value) if isinstance(value, float) else to_value(value)


def _typed(values: list[object], errors: Mapping[int, PlatformError]) -> Values:
    """One value per entity, as an array if they are numbers. Values of entities with errors are ignored."""
    sent = from_pylist(values)
    if isinstance(sent.values, np.ndarray):
        if sent.values.dtype.kind == "f":
            sent.values[sent.nulls] = np.nan
            return sent.values
        if all(at in errors for at in sent.nulls.tolist()):
            return sent.values
    return values


def _listed(values: Values | None, count: int) -> list[object]:
    if values is None:
        return [None] * count
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _placed(values: Values, places: Sequence[int], count: int) -> list[object]:
    """A list of length `count` with the values at `places` and None elsewhere."""
    found: list[object] = [None] * count
    for at, value in zip(places, _listed(values, len(places)), strict=True):
        found[at] = value
    return found
