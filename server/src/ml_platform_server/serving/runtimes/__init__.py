"""What executes models. A runtime is one small file that offers `predict`; the loader picks it by the deployment's runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.outputs.columns import ColumnPredictions
from ml_platform_server.serving.outputs.prediction import Prediction

Rows = Sequence[Sequence[object]]


# An output's name, its type in the words of the signature or of ONNX, and its shape, -1 for the rows.
Output = tuple[str, str, Sequence[int]]


class Runtime(Protocol):
    """One model version, ready to answer.

    Attributes:
        platform: what executes it, in a word.
        outputs: what it gives, the prediction first.
        matrix: the name of the one input that holds all columns side by side, if there is one, else "".
    """

    @property
    def platform(self) -> str: ...  # noqa: D102  # see above

    @property
    def outputs(self) -> Sequence[Output]: ...  # noqa: D102  # see above

    @property
    def matrix(self) -> str: ...  # noqa: D102  # see above

    async def predict(self, rows: Rows) -> list[Prediction]:
        """Answer N rows.

        Args:
            rows: one sequence of values per row, in the order of the model's columns, as `Column.convert` gives them; None is a
                null.

        Raises:
            PlatformError: INPUT_REJECTED, MODEL_FAILED and whatever its backend gives.
        """
        ...

    async def predict_columns(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        """Answer N rows that come as columns.

        Args:
            columns: one column of N values per column of the model, in their order, as `column_conversion.convert` gives them.
            rows: N.

        Raises:
            PlatformError: as `predict`.
        """
        ...
