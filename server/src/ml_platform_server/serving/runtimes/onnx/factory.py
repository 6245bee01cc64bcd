"""Loads ONNX graphs: ONNX models, and what other versions were converted to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ml_platform.v1 import models_pb2
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.runtimes import Runtime
from ml_platform_server.serving.runtimes.onnx.graphs import has_graph
from ml_platform_server.serving.runtimes.onnx.runtime import load_onnx
from ml_platform_server.settings import ServingSettings


class OnnxFactory:
    """See RuntimeFactory.

    Args:
        pool: where loading and long runs happen.
        settings: the section `serving`.
    """

    name = "onnx"
    needs_files = True

    def __init__(self, *, pool: BlockingPool, settings: ServingSettings) -> None:
        self._pool = pool
        self.max_concurrent_batches = settings.max_concurrent_batches

    def accepts(self, version: models_pb2.ModelVersion) -> bool:
        """See RuntimeFactory."""
        return has_graph(version)

    async def load(
        self,
        version: models_pb2.ModelVersion,  # noqa: ARG002  # the graph says it all
        columns: Sequence[Column],
        files: Path,
    ) -> tuple[Runtime, tuple[Column, ...]]:
        """See RuntimeFactory."""
        runtime = await load_onnx(files, columns, self._pool)
        return runtime, tuple(runtime.restricted(column, at) for at, column in enumerate(columns))
