"""Reads the features that a batch of rows needs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ml_platform.v1 import features_pb2
from ml_platform.v1.features_pb2 import FeatureStatus
from ml_platform_server.backends.feast.online import Cell
from ml_platform_server.errors import PlatformError
from ml_platform_server.observability.recorders import ModelMetrics
from ml_platform_server.serving.features.binding import Binding, FeatureReader, Slot
from ml_platform_server.serving.features.missing import FeaturePolicyApplier, unfit_feature
from ml_platform_server.serving.inputs.rows import Row
from ml_platform_server.serving.inputs.signature import CoercionError, Column

Outcome = PlatformError | None
Keys = Mapping[str, object]
PRESENT = features_pb2.FEATURE_STATUS_PRESENT


class FeatureFetches:
    """The reads of one batch: one, unless some rows have fewer join keys than others."""

    def __init__(
        self, columns: Sequence[Column], rows: Sequence[Row], outcomes: list[Outcome], metrics: ModelMetrics | None = None
    ) -> None:
        self._columns = columns
        self._metrics = metrics
        self._unusual: dict[int, int] = {}
        self._rows = rows
        self._outcomes = outcomes
        # Per binding: the positions of the rows that need it, and per row the slots to fill and the join keys.
        self._wanted: dict[int, tuple[Binding, list[int], list[Sequence[Slot]], list[Keys]]] = {}

    def add(self, binding: Binding, at: int, slots: Sequence[Slot], keys: Keys) -> None:
        """Add the slots of one row to the read of a binding."""
        _, ats, wanted, entities = self._wanted.get(id(binding)) or self._wanted.setdefault(id(binding), (binding, [], [], []))
        ats.append(at)
        wanted.append(slots)
        entities.append(keys)

    async def run(self, reader: FeatureReader) -> None:
        """Run the reads, one after another, and fill the rows. Errors go to the rows' outcomes."""
        for binding, ats, wanted, entities in self._wanted.values():
            start = time.perf_counter()
            try:
                found = await reader.read(binding.plan, entities)
            except PlatformError as error:
                for at in ats:
                    self._outcomes[at] = error
                continue
            seconds = time.perf_counter() - start
            for at, slots, keys, cells in zip(ats, wanted, entities, found, strict=True):
                self._outcomes[at] = self._filled(self._rows[at], binding, slots, keys, cells)
            if self._metrics is not None:
                self._count(self._metrics, seconds, sum(map(len, wanted)))

    def _count(self, metrics: ModelMetrics, seconds: float, cells: int) -> None:
        metrics.feature_read.record(seconds)
        for status, count in self._unusual.items():
            metrics.feature_status(FeatureStatus.Name(FeatureStatus.ValueType(status)), count)
            cells -= count
        metrics.feature_status("FEATURE_STATUS_PRESENT", cells)
        self._unusual.clear()

    def _filled(self, row: Row, binding: Binding, slots: Sequence[Slot], keys: Keys, cells: Sequence[Cell]) -> Outcome:
        values, cells_of_row = row.values, row.cells
        gaps: FeaturePolicyApplier | None = None
        for column, place, exact, convert in slots:
            cell = cells_of_row[column] = cells[place]
            value = cell.value
            if cell.status != PRESENT or value is None:
                gaps = gaps or FeaturePolicyApplier(row, binding, self._columns)
                self._unusual[cell.status] = self._unusual.get(cell.status, 0) + 1
                value = gaps.filled(column, cell)
                if value is None:
                    continue
            if type(value) is exact:
                values[column] = value
                continue
            try:
                values[column] = convert(value)
            except CoercionError as error:
                return unfit_feature(binding.refs([column])[0], self._columns[column], error)
        return gaps.settled(keys) if gaps else None
