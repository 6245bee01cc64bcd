"""The StoreReader that Feast itself is: it reads from every store, and computes features on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ml_platform_server.backends.feast import keys
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.plan import Cell, CellColumn, OnlinePlan, Row, by_column

if TYPE_CHECKING:
    from feast import FeatureStore


class FeastReader:
    """See StoreReader.

    Args:
        backend: the connection to Feast.
        plan: what is read.
    """

    def __init__(self, backend: FeastBackend, plan: OnlinePlan) -> None:
        self._backend = backend
        self._plan = plan

    async def read(self, rows: Sequence[Row]) -> list[list[Cell]]:
        """See StoreReader."""
        fitted = [keys.key_values(self._plan.join_keys, row, f"rows[{index}]") for index, row in enumerate(rows)]
        return await self._backend.call(read_in_pool, self._plan, fitted) if fitted else []

    async def read_columns(self, entities: Mapping[str, Sequence[object]], count: int) -> list[CellColumn]:
        """See StoreReader."""
        rows = [dict(zip(entities, row, strict=True)) for row in zip(*entities.values(), strict=True)] or [{}] * count
        return by_column(await self.read(rows), len(self._plan.features))


def read_in_pool(store: FeatureStore, plan: OnlinePlan, rows: Sequence[Row]) -> list[list[Cell]]:
    """Feast's read, in a thread of the pool: importing Feast may take seconds, and a big answer milliseconds."""
    from ml_platform_server.backends.feast import feast_read  # noqa: PLC0415  # see above

    return feast_read.read(store, plan, rows)
