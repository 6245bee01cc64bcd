"""What runs models. A runtime runs one version; its factory says which versions it accepts, and loads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from ml_platform.v1 import models_pb2
from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.inputs.signature import Column
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
            columns: one column of N values per column of the model, in their order, as `inputs/convert.py` gives them.
            rows: N.

        Raises:
            PlatformError: as `predict`.
        """
        ...


class RuntimeFactory(Protocol):
    """Makes the runtimes of one kind.

    Attributes:
        name: the kind, as `Runtime.platform` has it.
        needs_files: whether it opens a version's files in this process.
        max_concurrent_batches: batches of one version that run at the same time.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # see above

    @property
    def needs_files(self) -> bool: ...  # noqa: D102  # see above

    @property
    def max_concurrent_batches(self) -> int: ...  # noqa: D102  # see above

    def accepts(self, version: models_pb2.ModelVersion) -> bool:
        """Whether it can run a version."""
        ...

    async def load(
        self, version: models_pb2.ModelVersion, columns: Sequence[Column], files: Path
    ) -> tuple[Runtime, tuple[Column, ...]]:
        """Load a version that it accepts.

        Args:
            version: the version.
            columns: the inputs of its signature.
            files: the folder of its files in this process, if `needs_files`.

        Returns:
            The runtime, and the columns as it takes them: some take less than the signature allows.

        Raises:
            PlatformError: MODEL_FAILED, MODEL_ARTIFACT_MISSING.
        """
        ...
