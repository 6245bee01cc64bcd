"""What executes models. A runtime is one small file that offers `predict`; the loader picks it by the deployment's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ml_platform_server.serving.answers import Answer
from ml_platform_server.serving.column_answers import ColumnAnswers
from ml_platform_server.serving.column_values import Values

Rows = Sequence[Sequence[object]]


class Runtime(Protocol):
    """One model version, ready to answer."""

    async def predict(self, rows: Rows) -> list[Answer]:
        """Answer N rows.

        Args:
            rows: one sequence of values per row, in the order of the model's columns, as `Column.convert` gives them; None is a
                null.

        Raises:
            PlatformError: MODEL_FAILED and whatever its backend gives.
        """
        ...

    async def predict_columns(self, columns: Sequence[Values], rows: int) -> ColumnAnswers:
        """Answer N rows that come as columns.

        Args:
            columns: one column of N values per column of the model, in their order, as `column_conversion.convert` gives them.
            rows: N.

        Raises:
            PlatformError: as `predict`.
        """
        ...
