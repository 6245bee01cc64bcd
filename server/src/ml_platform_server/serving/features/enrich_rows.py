"""Fills the columns that a request did not send with features, in one read for the whole batch.

A sent value takes precedence over a stored one. Inputs that are neither a column nor a join key are ignored; the response and the
access log list them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from heapq import nsmallest

import structlog

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.backends.feast.online import CellColumn
from ml_platform_server.errors import PlatformError, Violation
from ml_platform_server.observability.recorders import ModelMetrics
from ml_platform_server.serving.features.absent import raise_missing_inputs
from ml_platform_server.serving.features.binding import Binding, FeatureReader, narrowed, resolve
from ml_platform_server.serving.features.reads import FeatureFetches, Outcome
from ml_platform_server.serving.inputs.rows import Row, taken, unsuitable
from ml_platform_server.serving.inputs.signature import CoercionError, Column

_log = structlog.get_logger(__name__)

MAX_NARROW_BINDINGS = 64
# Limits of the unused inputs that a response lists, in names and in characters per name: a request may contain any number.
MOST_UNUSED = 100
LONGEST_NAME = 200


class Enrichment:
    """The features of one model version: resolved once, read for each batch.

    Args:
        version: the version as the registry returned it.
        columns: the columns of its signature.
        reader: the feature store.
        metrics: records the durations of reads and the statuses of features.
    """

    def __init__(
        self,
        *,
        version: models_pb2.ModelVersion,
        columns: Sequence[Column],
        reader: FeatureReader,
        metrics: ModelMetrics | None = None,
    ) -> None:
        self._version = version
        self._metrics = metrics
        self._columns = columns
        self._reader = reader
        self._resolving = asyncio.Lock()
        self._resolved = False
        self._binding: Binding | None = None
        self._narrow: dict[tuple[int, ...], Binding] = {}
        self._known = frozenset(column.name for column in columns)

    @property
    def binding(self) -> Binding | None:
        """The columns that features supply; None before the features are resolved, or if there are none."""
        return self._binding

    async def prepare(self) -> None:
        """Resolve the features before the first request. If the feature store is down, this logs a warning: see `enrich`."""
        try:
            await self._bound()
        except PlatformError as error:
            _log.warning(
                "features_not_resolved", model=self._version.model_name, version=self._version.version, reason=error.reason_name
            )

    async def enrich(self, rows: Sequence[Row]) -> list[Outcome]:
        """Fill N rows in place. Rows that need the same features share one read.

        Returns:
            N outcomes: None, or the error of the row. An error of one row does not affect the others.
        """
        outcomes: list[Outcome] = [None] * len(rows)
        lacking = [at for at, row in enumerate(rows) if row.missing]
        if not lacking:
            return outcomes
        try:
            binding = self._binding if self._resolved else await self._bound()
        except PlatformError as error:
            self._without_features(rows, lacking, outcomes, error)
            return outcomes
        reads = FeatureFetches(self._columns, rows, outcomes, self._metrics)
        for at in lacking:
            if not self._planned_at_once(rows[at], at, binding, reads):
                outcomes[at] = await self._planned(rows[at], at, binding, reads)
        await reads.run(self._reader)
        if any(outcomes):
            self._forget_if_gone(outcomes)
        return outcomes

    async def read_columns(self, binding: Binding, entities: Mapping[str, Sequence[object]], count: int) -> list[CellColumn]:
        """Read all features of a binding for `count` entities, given as `count` values per join key.

        Raises:
            PlatformError: the errors of FeatureReader.read_columns.
        """
        try:
            return await self._reader.read_columns(binding.plan, entities, count)
        except PlatformError as error:
            self._forget_if_gone([error])
            raise

    @property
    def resolved(self) -> bool:
        """Whether the features of the version have been resolved."""
        return self._resolved

    def unused(self, names: Collection[str]) -> Sequence[str]:
        """The names of unused inputs, within the limits of a response; empty before the join keys are resolved."""
        known = self._known
        if known.issuperset(names) or not self._resolved:
            return ()
        return [name[:LONGEST_NAME] for name in nsmallest(MOST_UNUSED, (name for name in names if name not in known))]

    def _without_features(
        self, rows: Sequence[Row], lacking: Sequence[int], outcomes: list[Outcome], error: PlatformError
    ) -> None:
        """Fail rows after the features could not be resolved, except rows that may be predicted without features."""
        for at in lacking:
            row = rows[at]
            if not row.policy.silent or any(self._columns[column].required for column in row.missing):
                outcomes[at] = error

    async def _bound(self) -> Binding | None:
        if not self._resolved:
            async with self._resolving:
                if not self._resolved:
                    self._binding = await resolve(self._version, self._columns, self._reader)
                    self._resolved = True
                    self._known |= self._binding.names() if self._binding else frozenset()
        return self._binding

    def _planned_at_once(self, row: Row, at: int, binding: Binding | None, reads: FeatureFetches) -> bool:
        """Fast path: plan the read of a row that lacks all features and no other column, and has no unused inputs.

        Returns whether the row was planned.
        """
        if binding is None or row.missing != binding.order or len(row.fields) != binding.bare:
            return False
        try:
            keys = binding.keys.take(row.fields)
        except PlatformError:
            return False
        if keys is None:
            return False
        reads.add(binding, at, binding.slots, keys)
        return True

    async def _planned(self, row: Row, at: int, binding: Binding | None, reads: FeatureFetches) -> Outcome:
        """Plan the read of a row that lacks columns. Returns the error if it cannot be completed."""
        try:
            if binding is None:
                raise_missing_inputs(self._columns, row.missing, unused=self.unused(row.others))
                return None
            self._take_aliases(row, binding)
            needed = [column for column in row.missing if column in binding.features]
            others = [column for column in row.missing if column not in binding.features]
            if not needed:
                raise_missing_inputs(self._columns, others, unused=self.unused(row.others))
                return None
            binding = await self._suited(row, binding, needed)
            keys = binding.keys.take(row.fields)
            if keys is None or any(self._columns[column].required for column in others):
                absent = binding.keys.absent(row.fields)
                raise_missing_inputs(self._columns, others, absent, needed, binding, unused=self.unused(row.others))
            if keys is not None:
                reads.add(binding, at, [slot for slot in binding.slots if slot.column in needed], keys)
        except PlatformError as error:
            return error
        return None

    def _take_aliases(self, row: Row, binding: Binding) -> None:
        violations: list[Violation] = []
        for column in list(row.missing):
            alias = next((name for name in binding.aliases.get(column, ()) if name in row.fields), None)
            if alias is None:
                continue
            try:
                row.values[column] = taken(self._columns[column], row.fields[alias])
            except CoercionError as error:
                violations.append(Violation(f"inputs.{alias}", str(error)))
            row.missing = [other for other in row.missing if other != column]  # rows share their lists
        if violations:
            raise unsuitable(violations)

    async def _suited(self, row: Row, binding: Binding, needed: list[int]) -> Binding:
        """The binding for a row: a narrower one if the row lacks a join key, since perhaps only features that it sent need it."""
        if len(needed) == len(binding.features) or not binding.keys.absent(row.fields):
            return binding
        wanted = tuple(needed)
        if wanted not in self._narrow:
            if len(self._narrow) >= MAX_NARROW_BINDINGS:
                self._narrow.clear()
            self._narrow[wanted] = await narrowed(binding, needed, self._columns, self._reader)
        return self._narrow[wanted]

    def _forget_if_gone(self, outcomes: Sequence[Outcome]) -> None:
        """Resolve again for the next batch if a feature or a view was not found: the registry has changed."""
        gone = (errors_pb2.ERROR_REASON_FEATURE_VIEW_NOT_FOUND, errors_pb2.ERROR_REASON_FEATURE_NOT_FOUND)
        if any(error is not None and error.reason in gone for error in outcomes):
            self._resolved = False
            self._narrow.clear()
