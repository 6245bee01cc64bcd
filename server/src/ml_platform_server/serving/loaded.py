"""A model version that is ready to answer, and where those come from."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Sequence
from typing import TypeVar
from weakref import WeakValueDictionary

import structlog

from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform_server.backends.bentoml.client import BentomlBackend
from ml_platform_server.backends.blocking import BlockingPool
from ml_platform_server.call import remaining, set_deadline
from ml_platform_server.errors import PlatformError, deadline_exceeded
from ml_platform_server.observability.recorders import ModelMetrics, PredictionMetrics
from ml_platform_server.observability.tracing import current
from ml_platform_server.serving import halving
from ml_platform_server.serving.answers import Said
from ml_platform_server.serving.batcher import Batcher, Batching
from ml_platform_server.serving.bindings import FeatureReader
from ml_platform_server.serving.column_answers import ColumnAnswers
from ml_platform_server.serving.column_values import Values
from ml_platform_server.serving.columns import Column, columns_of
from ml_platform_server.serving.enrichment import Enrichment
from ml_platform_server.serving.model_cache import CachedModel, ModelCache, has_graph, is_native
from ml_platform_server.serving.rows import Row, decoder
from ml_platform_server.serving.runtimes import Rows, Runtime
from ml_platform_server.serving.runtimes.bentoml import BentomlRuntime
from ml_platform_server.serving.runtimes.onnx import load_onnx
from ml_platform_server.settings import ServingSettings

T = TypeVar("T")
_log = structlog.get_logger(__name__)

# How long a caller without a deadline waits for a model to be loaded.
LOAD_SECONDS = 60.0
# What says that the graph of a converted version cannot be had or used, so that BentoML has to serve the version itself.
_GRAPH_FAULTS = (errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING, errors_pb2.ERROR_REASON_MODEL_FAILED)


class _Answering:
    """Answers rows with one model version.

    The batcher and the loaded model both refer to it, and it refers to neither. A version that is replaced is therefore in no
    reference cycle and is freed at once: the garbage collector never looks at what was loaded before it froze (memory.py).
    """

    def __init__(self, *, about: str, enrichment: Enrichment, runtime: Runtime, metrics: ModelMetrics) -> None:
        self._about = about
        self._enrichment = enrichment
        self._runtime = runtime
        self._metrics = metrics

    async def rows(self, rows: Sequence[Row]) -> list[Said | PlatformError]:
        """See LoadedModel.answer."""
        trace, started = current.get(), time.perf_counter()
        outcomes = await self._enrichment.enrich(rows)
        if trace is not None:
            trace.stage("feature read", started, time.perf_counter(), {"rows": len(rows)})
        ready = [row.values for row, error in zip(rows, outcomes, strict=True) if error is None]
        found = await self._timed(self._run(ready), len(ready)) if ready else []
        if len(ready) < len(rows):
            left = iter(found)
            found = [next(left) if error is None else error for error in outcomes]
        return found

    async def columns(self, columns: Sequence[Values], rows: int) -> ColumnAnswers:
        """See LoadedModel.answer_columns."""
        try:
            return await self._columns(columns, rows)
        except PlatformError as error:
            if error.reason == errors_pb2.ERROR_REASON_MODEL_FAILED:
                halving.log_failure(self._about, error, rows=rows)
            raise

    async def parts(self, columns: Sequence[Values], rows: int) -> list[tuple[slice, ColumnAnswers | PlatformError]]:
        """See LoadedModel.answer_parts."""

        def run(part: slice) -> Awaitable[ColumnAnswers]:
            return self._columns([column[part] for column in columns], part.stop - part.start)

        return await halving.by_halves(run, rows, model=self._about)

    def _columns(self, columns: Sequence[Values], rows: int) -> Awaitable[ColumnAnswers]:
        return self._timed(self._runtime.predict_columns(columns, rows), rows)

    async def _timed(self, run: Awaitable[T], rows: int) -> T:
        trace, started = current.get(), time.perf_counter()
        found = await run
        ended = time.perf_counter()
        self._metrics.batch_size.record(rows)
        self._metrics.model_run.record(ended - started)
        if trace is not None:
            trace.stage("model run", started, ended, {"rows": rows})
        return found

    async def _run(self, rows: Rows) -> list[Said | PlatformError]:
        """Run the model; a row that it fails on has its own error."""
        runtime = self._runtime
        try:
            return [*await runtime.predict(rows)]
        except PlatformError as error:
            parts = await halving.by_halves(lambda part: runtime.predict(rows[part]), len(rows), model=self._about, error=error)
        outcomes: list[Said | PlatformError] = []
        for part, said in parts:
            outcomes += [said] * (part.stop - part.start) if isinstance(said, PlatformError) else said
        return outcomes


class LoadedModel:
    """One model version with all it needs to answer.

    Args:
        version: the registry's description of it.
        columns: what it takes.
        enrichment: what completes its rows.
        runtime: what executes it.
        batching: how single rows are gathered.
        metrics: what is counted of its predictions.
    """

    def __init__(
        self,
        *,
        version: models_pb2.ModelVersion,
        columns: tuple[Column, ...],
        enrichment: Enrichment,
        runtime: Runtime,
        batching: Batching | None = None,
        metrics: ModelMetrics | None = None,
    ) -> None:
        self.version = version
        # Read once: every read of a message's field makes a new object.
        self.name, self.number = version.model_name, version.version
        self.columns = columns
        self.enrichment = enrichment
        self.runtime = runtime
        # Reads one request's inputs; raises INPUT_INVALID.
        self.decode = decoder(columns)
        self.metrics = metrics or PredictionMetrics().unrouted
        about = f"{self.name}/{self.number}"
        self._answering = _Answering(about=about, enrichment=enrichment, runtime=runtime, metrics=self.metrics)
        self.submit = Batcher(self._answering.rows, batching or Batching(), self.metrics).submit

    def settled(self, outcome: Said | PlatformError) -> Said:
        """What came of a row that was submitted: its answer, or its error, which is counted and raised."""
        if isinstance(outcome, PlatformError):
            self.metrics.error(outcome.reason_name)
            raise outcome
        return outcome

    def answer(self, rows: Sequence[Row]) -> Awaitable[list[Said | PlatformError]]:
        """Answer N rows: one read of the feature store, one run of the model.

        Returns:
            For each row its answer, or the error that keeps this row from having one.
        """
        return self._answering.rows(rows)

    def answer_columns(self, columns: Sequence[Values], rows: int) -> Awaitable[ColumnAnswers]:
        """Answer N complete rows that come as columns, in one run of the model.

        Raises:
            PlatformError: what kept the model from answering.
        """
        return self._answering.columns(columns, rows)

    def answer_parts(self, columns: Sequence[Values], rows: int) -> Awaitable[list[tuple[slice, ColumnAnswers | PlatformError]]]:
        """Answer N complete rows that come as columns; rows that the model fails on have their own error. See `by_halves`."""
        return self._answering.parts(columns, rows)


class ModelLoader:
    """Loads model versions, each once whatever the number of those who ask for it."""

    def __init__(
        self,
        *,
        cache: ModelCache,
        reader: FeatureReader,
        bentoml: BentomlBackend,
        pool: BlockingPool,
        settings: ServingSettings,
        metrics: PredictionMetrics | None = None,
    ) -> None:
        self._metrics = metrics or PredictionMetrics()
        self._settings = settings
        self._cache = cache
        self._reader = reader
        self._bentoml = bentoml
        self._pool = pool
        self._loading: dict[tuple[str, int, int], asyncio.Task[LoadedModel]] = {}
        # Shared between environments for as long as somebody serves them. The creation time is in the key because a version's
        # number may be given again.
        self._loaded: WeakValueDictionary[tuple[str, int, int, int], LoadedModel] = WeakValueDictionary()

    async def load(self, model_name: str, version: int, runtime: int) -> LoadedModel:
        """Load a version, or wait until the deadline for whoever is loading it already.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING, MODEL_WITHOUT_SIGNATURE, MODEL_FAILED, DEADLINE_EXCEEDED, BACKEND_UNAVAILABLE.
        """
        key = (model_name, version, runtime)
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(model_name, version, runtime))
            task.add_done_callback(lambda done: self._done(key, done))
        try:
            return await asyncio.wait_for(asyncio.shield(task), remaining(LOAD_SECONDS))
        except TimeoutError:
            raise deadline_exceeded(f"Loading the model {model_name!r}") from None

    async def close(self) -> None:
        """Stop what is still loading."""
        tasks = list(self._loading.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, key: tuple[str, int, int], task: asyncio.Task[LoadedModel]) -> None:
        self._loading.pop(key, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            reason = error.reason_name if isinstance(error, PlatformError) else repr(error)
            _log.warning("model_not_loaded", model=key[0], version=key[1], reason=reason)

    async def _load(self, model_name: str, number: int, runtime: int) -> LoadedModel:
        set_deadline(None)  # of the call that happened to come first; the others, and the next ones, want the model too
        if runtime != deployments_pb2.SERVING_RUNTIME_BENTOML:
            try:
                return await self._served_by(model_name, number, runtime, graph=True)
            except PlatformError as error:
                # The door opens ONNX graphs and nothing else: the model itself stays with BentoML.
                if error.reason not in _GRAPH_FAULTS or is_native(
                    (await self._cache.fetch(model_name, number, files=False)).version
                ):
                    raise
                _log.warning("graph_not_used", model=model_name, version=number, reason=error.reason_name, error=error.message)
        return await self._served_by(model_name, number, runtime, graph=False)

    async def _served_by(self, model_name: str, number: int, runtime: int, *, graph: bool) -> LoadedModel:
        """The version, run by its graph if it has one and that is wanted, and else by BentoML."""
        cached = await self._cache.fetch(model_name, number, files=graph)
        key = (model_name, number, runtime, cached.version.create_time.ToNanoseconds())
        loaded = self._loaded.get(key)
        if loaded is None:
            onnx = graph and has_graph(cached.version)
            loaded = self._loaded[key] = await self._built(cached, onnx=onnx)
            _log.info("model_loaded", model=model_name, version=number, runtime="onnx" if onnx else "bentoml")
        return loaded

    async def _built(self, cached: CachedModel, *, onnx: bool) -> LoadedModel:
        version = cached.version
        if not version.HasField("signature") or not version.signature.inputs:
            raise _without_signature(version)
        columns = columns_of(version.signature)
        runtime: Runtime
        if onnx:
            runtime = onnx_runtime = await load_onnx(cached.files, columns, self._pool)
            columns = tuple(
                column if onnx_runtime.nullable(at) else dataclasses.replace(column, required=True)
                for at, column in enumerate(columns)
            )
        else:
            runtime = bentoml_runtime = BentomlRuntime(version=version, columns=columns, backend=self._bentoml)
            await bentoml_runtime.warm()
        metrics = self._metrics.for_model(version.model_name, version.version)
        enrichment = Enrichment(version=version, columns=columns, reader=self._reader, metrics=metrics)
        await enrichment.prepare()
        return LoadedModel(
            version=version,
            columns=columns,
            enrichment=enrichment,
            runtime=runtime,
            batching=self._batching(onnx=onnx),
            metrics=metrics,
        )

    def _batching(self, *, onnx: bool) -> Batching:
        settings = self._settings
        at_once = settings.batches_at_once if onnx else settings.bentoml_batches_at_once
        slow = max(at_once, settings.slow_batches_at_once)
        return Batching(largest=settings.largest_batch, at_once=at_once, slow_at_once=slow, longest_queue=settings.longest_queue)


def _without_signature(version: models_pb2.ModelVersion) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_WITHOUT_SIGNATURE,
        f"Version {version.version} of the model {version.model_name!r} has no signature, so its inputs are not known.",
        remedy="Log the model with a signature (mlflow.models.infer_signature), register and deploy it again.",
    )
