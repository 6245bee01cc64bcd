"""A loaded model version: decodes rows, adds features, runs the model, isolates failing rows."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from ml_platform.v1 import models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.observability.recorders import ModelMetrics, PredictionMetrics
from ml_platform_server.observability.tracing import current
from ml_platform_server.serving import failing_rows
from ml_platform_server.serving.dynamic_batching import BatchingOptions, DynamicBatcher
from ml_platform_server.serving.features.enrich_rows import Enrichment
from ml_platform_server.serving.inputs.columns import Values
from ml_platform_server.serving.inputs.params import converted, no_params
from ml_platform_server.serving.inputs.rows import Row, decoder
from ml_platform_server.serving.inputs.signature import Column
from ml_platform_server.serving.outputs.columns import ColumnPredictions
from ml_platform_server.serving.outputs.prediction import Prediction
from ml_platform_server.serving.runtimes import Rows, Runtime
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime

T = TypeVar("T")
Submit = Callable[[Row, float], Awaitable[Prediction | PlatformError]]
_log = structlog.get_logger(__name__)


class _Predictor:
    """Predicts rows with one model version.

    The batcher and the loaded model both hold a reference to it, and it holds none to them. A replaced version is therefore in no
    reference cycle and is freed immediately: the garbage collector ignores objects from before gc.freeze() (memory.py).
    """

    def __init__(self, *, about: str, enrichment: Enrichment, runtime: Runtime, metrics: ModelMetrics) -> None:
        self._about = about
        self._enrichment = enrichment
        self._runtime = runtime
        self._metrics = metrics

    async def rows(self, rows: Sequence[Row]) -> list[Prediction | PlatformError]:
        """See LoadedModel.answer."""
        trace, started = current.get(), time.perf_counter()
        outcomes = await self._enrichment.enrich(rows)
        if trace is not None:
            trace.add_child_span("feature read", started, time.perf_counter(), {"rows": len(rows)})
        ready = [row.values for row, error in zip(rows, outcomes, strict=True) if error is None]
        found = await self._timed(self._run(ready), len(ready)) if ready else []
        if len(ready) < len(rows):
            left = iter(found)
            found = [next(left) if error is None else error for error in outcomes]
        return found

    async def columns(self, columns: Sequence[Values], rows: int) -> ColumnPredictions:
        """See LoadedModel.answer_columns."""
        try:
            return await self._columns(columns, rows)
        except PlatformError as error:
            if failing_rows.about_rows(error):
                failing_rows.log_failure(self._about, error, rows=rows)
            raise

    async def parts(self, columns: Sequence[Values], rows: int) -> list[tuple[slice, ColumnPredictions | PlatformError]]:
        """See LoadedModel.answer_parts."""

        def run(part: slice) -> Awaitable[ColumnPredictions]:
            return self._columns([column[part] for column in columns], part.stop - part.start)

        return await failing_rows.isolate_failing_rows(run, rows, model=self._about)

    def _columns(self, columns: Sequence[Values], rows: int) -> Awaitable[ColumnPredictions]:
        return self._timed(self._runtime.predict_columns(columns, rows), rows)

    async def _timed(self, run: Awaitable[T], rows: int) -> T:
        trace, started = current.get(), time.perf_counter()
        found = await run
        ended = time.perf_counter()
        self._metrics.batch_size.record(rows)
        self._metrics.model_run.record(ended - started)
        if trace is not None:
            trace.add_child_span("model run", started, ended, {"rows": rows})
        return found

    async def _run(self, rows: Rows) -> list[Prediction | PlatformError]:
        """Run the model. Return one outcome per row: the prediction, or the error of a row that the model fails on."""
        runtime = self._runtime
        try:
            return [*await runtime.predict(rows)]
        except PlatformError as error:
            parts = await failing_rows.isolate_failing_rows(
                lambda part: runtime.predict(rows[part]), len(rows), model=self._about, error=error
            )
        outcomes: list[Prediction | PlatformError] = []
        for part, outcome in parts:
            outcomes += [outcome] * (part.stop - part.start) if isinstance(outcome, PlatformError) else outcome
        return outcomes


class LoadedModel:
    """One model version with everything that a prediction needs.

    Args:
        version: its entry in the registry.
        columns: its inputs.
        enrichment: adds features to rows.
        runtime: runs the model.
        batching: limits of the batches of single rows.
        metrics: counters and histograms of its predictions.
        hold: keeps its files in the disk cache while it is loaded.

    Attributes:
        retry_at: when to try its ONNX graph again, in seconds of `time.monotonic`; infinite unless BentoML replaces a graph that
            could not be loaded or run.
        retry_delay: seconds between the last attempt and `retry_at`.
    """

    def __init__(
        self,
        *,
        version: models_pb2.ModelVersion,
        columns: tuple[Column, ...],
        enrichment: Enrichment,
        runtime: Runtime,
        batching: BatchingOptions | None = None,
        metrics: ModelMetrics | None = None,
        hold: object = None,
    ) -> None:
        self.retry_at, self.retry_delay = math.inf, 0.0
        self._hold = hold
        self.version = version
        # Read once: every read of a message's field makes a new object.
        self.name, self.number = version.model_name, version.version
        self.columns = columns
        self.enrichment = enrichment
        self.runtime = runtime
        # Decodes the inputs of one request; raises INPUT_INVALID.
        self.decode = decoder(columns)
        self.metrics = metrics or PredictionMetrics().no_version
        about = f"{self.name}/{self.number}"
        self._predictor = _Predictor(about=about, enrichment=enrichment, runtime=runtime, metrics=self.metrics)
        self.submit: Submit = DynamicBatcher(self._predictor.rows, batching or BatchingOptions(), self.metrics).submit

    def with_params(self, sent: Mapping[str, object]) -> LoadedModel:
        """The same model with params bound to it. Its rows are not batched with other requests' rows.

        Raises:
            PlatformError: INPUT_INVALID for params that the signature does not have, or of other types.
        """
        try:
            params = converted(self.version.signature.params, sent)
            if not isinstance(self.runtime, BentomlRuntime):
                raise no_params(self.name)
        except PlatformError as error:
            self.metrics.error(error.reason_name)
            raise
        bound = copy.copy(self)
        bound.runtime = self.runtime.with_params(params)
        about = f"{self.name}/{self.number}"
        predictor = _Predictor(about=about, enrichment=self.enrichment, runtime=bound.runtime, metrics=self.metrics)

        async def submit(row: Row, deadline: float) -> Prediction | PlatformError:  # noqa: ARG001  # the call's own deadline ends it
            (answer,) = await predictor.rows([row])
            return answer

        bound._predictor, bound.submit = predictor, submit
        return bound

    def unwrap(self, outcome: Prediction | PlatformError) -> Prediction:
        """Return the prediction of a submitted row, or count and raise its error."""
        if isinstance(outcome, PlatformError):
            self.metrics.error(outcome.reason_name)
            raise outcome
        return outcome

    def answer(self, rows: Sequence[Row]) -> Awaitable[list[Prediction | PlatformError]]:
        """Predict N rows with one feature read and one model run.

        Returns:
            One outcome per row: the prediction or the row's error.
        """
        return self._predictor.rows(rows)

    def answer_columns(self, columns: Sequence[Values], rows: int) -> Awaitable[ColumnPredictions]:
        """Predict N complete rows given as columns (N values each) in one model run.

        Raises:
            PlatformError: the error of the run; it fails all rows.
        """
        return self._predictor.columns(columns, rows)

    def answer_parts(
        self, columns: Sequence[Values], rows: int
    ) -> Awaitable[list[tuple[slice, ColumnPredictions | PlatformError]]]:
        """Predict N complete rows given as columns. Rows that the model fails on have errors of their own."""
        return self._predictor.parts(columns, rows)
