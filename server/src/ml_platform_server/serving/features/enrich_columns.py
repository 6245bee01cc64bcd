"""Completes columns: each entity among the join keys is looked up once, and its features go to all the rows that name it.

What is usual is done for whole columns at once. An entity with anything unusual about it (a key that is null or of another type,
a feature that is missing, old, or not of its column's type) goes through the enrichment of rows, so both ways agree in what they
make of it, in their errors too.
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
"""Errors of a read by columns after which a read by rows may succeed: for some rows, or with what the registry has now."""

Read = Callable[[Binding, Mapping[str, Sequence[object]], int], Awaitable[list[CellColumn]]]
Enrich = Callable[[Sequence[Row]], Awaitable[Sequence[PlatformError | None]]]


@dataclass(slots=True)
class EnrichedColumns:
    """What the feature store gave for a batch: the values by the column's position, and the rows that are to have errors."""

    values: dict[int, Values]
    errors: dict[int, PlatformError] = field(default_factory=dict)
    degraded: dict[int, Sequence[str]] = field(default_factory=dict)


class ColumnFeatures:
    """The completion of batches for one model.

    Args:
        columns: the model's.
        read: reads a binding's features for many entities.
        enrich: completes rows one by one, and knows what is wrong with them.
        policy: the deployment's.
        metrics: is told how long reads take and what they find.
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
        """Find the columns that were not sent.

        Args:
            sent: the batch, or the part of it that is in hand, by the columns' names.
            rows: how many rows it has.
            missing: the positions of the model's columns that are not in it, under any name.
            binding: which of them the feature store supplies; None if that is not known, or if it supplies none.
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
        """Whether a read of the feature store can complete a row at all."""
        others = [column for column in missing if column not in binding.features]
        return len(others) < len(missing) and not any(self._columns[column].required for column in others)

    async def _features(
        self, binding: Binding, entities: EntityIndex, missing: Sequence[int]
    ) -> tuple[Sequence[int], dict[int, Values], dict[int, PlatformError]]:
        """Read the features of the usual entities.

        Returns:
            The positions of the others; each column, one value an entity; and the errors of the entities that have one.
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
            # The store does not answer. To ask it again for the same entities would cost as much once more, and change nothing.
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
        """One column of what was read, and the positions of the cells for which that is not all there is to it."""
        fitting, statuses = self._fitting(column), cells.statuses
        found = set(statuses)
        doubtful = set() if fitting >= found else {at for at, one in enumerate(statuses) if one not in fitting}
        for status in found & fitting:  # the others are counted where they are looked at again
            count = len(statuses) if len(found) == 1 else statuses.count(status)
            self._metrics.feature_status(FeatureStatus.Name(FeatureStatus.ValueType(status)), count)
        values = cells.values
        converted = convert(self._columns[column], from_array(values) if isinstance(values, np.ndarray) else from_pylist(values))
        doubtful.update(converted.bad)
        return converted.values, doubtful

    def _fitting(self, column: int) -> set[int]:
        """The statuses under which the policy lets a column have what was read, or null, without further ado."""
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
        """Complete the entities with anything unusual as if each were a row. Others have failed already."""
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
    """A key as a request would bring it, NaN and infinity too."""
    return struct_pb2.Value(number_value=value) if isinstance(value, float) else to_value(value)


def _typed(values: list[object], errors: Mapping[int, PlatformError]) -> Values:
    """An entity's values as an array where they are numbers. What an entity with an error has does not count."""
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
    """The values at their places among `count`, and None elsewhere."""
    found: list[object] = [None] * count
    for at, value in zip(places, _listed(values, len(places)), strict=True):
        found[at] = value
    return found
