"""What executes models. A runtime is one small file that offers `predict`; the loader picks it by the deployment's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ml_platform_server.serving.answers import Answer

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
