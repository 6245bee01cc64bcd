"""The StoreReader that reads Redis without Feast: Feast's own read takes milliseconds of the interpreter a call."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TypeVar

from ml_platform_server.backends.feast import errors
from ml_platform_server.backends.feast.client import FeastBackend
from ml_platform_server.backends.feast.plan import Cell, CellColumn, OnlinePlan, Row
from ml_platform_server.backends.feast.redis import read_columns, read_rows
from ml_platform_server.backends.feast.redis.layout import Layout
from ml_platform_server.backends.feast.redis.read_rows import Ask
from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, deadline_exceeded

T = TypeVar("T")


class RedisReader:
    """See StoreReader.

    Args:
        backend: holds the connection to the store.
        plan: what is read.
        layout: where Feast keeps it, proved against Feast's own code.
    """

    def __init__(self, backend: FeastBackend, plan: OnlinePlan, layout: Layout) -> None:
        self._backend = backend
        self._join_keys = plan.join_keys
        self.layout = layout

    def read(self, rows: Sequence[Row]) -> Coroutine[None, None, list[list[Cell]]]:
        """See StoreReader."""
        layout, join_keys = self.layout, self._join_keys
        return self._execute(lambda ask: read_rows.read(layout, join_keys, rows, ask))

    def read_columns(self, entities: Mapping[str, Sequence[object]], count: int) -> Coroutine[None, None, list[CellColumn]]:
        """See StoreReader."""
        layout, join_keys = self.layout, self._join_keys
        return self._execute(lambda ask: read_columns.read(layout, join_keys, entities, count, ask))

    async def _execute(self, read: Callable[[Ask], Awaitable[T]]) -> T:
        store, budget = self._backend.online_store(self.layout.address), remaining(math.inf)
        seconds = min(budget, self._backend.timeout)
        try:
            return await read(lambda commands, count: store.ask(commands, count, seconds))
        except TimeoutError as error:
            raise deadline_exceeded("The call to Feast") if budget <= seconds else errors.translate(error) from error
        except PlatformError:
            raise
        except Exception as error:
            raise errors.translate(error) from error
