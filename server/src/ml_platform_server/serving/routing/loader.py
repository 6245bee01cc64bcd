"""Loads model versions: their files, their runtime, and what completes their rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from weakref import WeakValueDictionary

import structlog

from ml_platform.v1 import deployments_pb2, errors_pb2, models_pb2
from ml_platform_server.call import remaining, set_deadline
from ml_platform_server.errors import PlatformError, within
from ml_platform_server.observability.recorders import PredictionMetrics
from ml_platform_server.serving.dynamic_batching import BatchingOptions
from ml_platform_server.serving.features.binding import FeatureReader
from ml_platform_server.serving.features.enrich_rows import Enrichment
from ml_platform_server.serving.inputs.signature import columns_of
from ml_platform_server.serving.model import LoadedModel
from ml_platform_server.serving.routing.cache_entries import CachedModel
from ml_platform_server.serving.routing.model_cache import ModelCache
from ml_platform_server.serving.runtimes import RuntimeFactory
from ml_platform_server.serving.runtimes.onnx.graphs import is_native
from ml_platform_server.settings import ServingSettings

_log = structlog.get_logger(__name__)

# How long a caller without a deadline waits for a model to be loaded.
LOAD_SECONDS = 60.0
# How long loading may take, whoever waits for it: a big model from a slow store.
LONGEST_LOAD = 600.0
# Why the graph of a converted version cannot be had or used, so that BentoML has to serve the version itself.
_GRAPH_FAULTS = (
    errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
    errors_pb2.ERROR_REASON_MODEL_ARTIFACT_UNREADABLE,
    errors_pb2.ERROR_REASON_MODEL_CACHE_UNAVAILABLE,
    errors_pb2.ERROR_REASON_MODEL_FAILED,
    errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
    errors_pb2.ERROR_REASON_DEADLINE_EXCEEDED,
    errors_pb2.ERROR_REASON_OVERLOADED,
)
# When such a graph is tried again: after this time, then after twice as long, and so on.
GRAPH_RETRY_SECONDS = 30.0
LONGEST_GRAPH_RETRY = 3600.0


class ModelLoader:
    """Loads model versions, each once however many callers ask for it.

    Args:
        cache: the versions' descriptions and files.
        reader: the feature store.
        factories: the kinds of runtimes. The first that accepts a version runs it; the last accepts every version.
        settings: the section `serving`.
        metrics: counters and histograms of predictions.
    """

    def __init__(
        self,
        *,
        cache: ModelCache,
        reader: FeatureReader,
        factories: Sequence[RuntimeFactory],
        settings: ServingSettings,
        metrics: PredictionMetrics | None = None,
    ) -> None:
        self._metrics = metrics or PredictionMetrics()
        self._settings = settings
        self._cache = cache
        self._reader = reader
        self._factories = tuple(factories)
        self._loading: dict[tuple[str, int, int], asyncio.Task[LoadedModel]] = {}
        # Shared between environments for as long as somebody serves them, by what runs them. The creation time is in
        # the key because a version's number may be given again.
        self._loaded: WeakValueDictionary[tuple[str, int, str, int], LoadedModel] = WeakValueDictionary()

    async def load(self, model_name: str, version: int, runtime: int) -> LoadedModel:
        """Load a version, or wait until the deadline for whoever is loading it already.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING, MODEL_ARTIFACT_UNREADABLE, MODEL_CACHE_UNAVAILABLE, MODEL_WITHOUT_SIGNATURE,
                MODEL_FAILED, DEADLINE_EXCEEDED, BACKEND_UNAVAILABLE.
        """
        key = (model_name, version, runtime)
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load(model_name, version, runtime))
            task.add_done_callback(lambda done: self._done(key, done))
        async with within(remaining(LOAD_SECONDS), f"Loading the model {model_name!r}"):
            return await asyncio.shield(task)

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
        # Not the deadline of the call that happened to come first: the others, and the next ones, want the model too.
        set_deadline(time.monotonic() + LONGEST_LOAD)
        if runtime == deployments_pb2.SERVING_RUNTIME_BENTOML:
            return await self._served_by(model_name, number, self._factories[-1:])
        try:
            return await self._served_by(model_name, number, self._factories)
        except PlatformError as error:
            # This process opens ONNX graphs and nothing else: the model itself stays with BentoML.
            if error.reason not in _GRAPH_FAULTS or is_native((await self._cache.fetch(model_name, number, files=False)).version):
                raise
            fault = error
        if fault.reason == errors_pb2.ERROR_REASON_MODEL_FAILED:
            await self._cache.forget(model_name, number)  # What is on the disk may be damaged.
        model = await self._served_by(model_name, number, self._factories[-1:])
        model.retry_delay = min(2 * model.retry_delay, LONGEST_GRAPH_RETRY) if model.retry_delay else GRAPH_RETRY_SECONDS
        model.retry_at = time.monotonic() + model.retry_delay
        _log.warning(
            "onnx_fallback_to_bentoml",
            model=model_name,
            version=number,
            reason=fault.reason_name,
            error=fault.message,
            retry_in_seconds=model.retry_delay,
        )
        return model

    async def _served_by(self, model_name: str, number: int, factories: Sequence[RuntimeFactory]) -> LoadedModel:
        """The version, run by the first of these kinds of runtimes that accepts it."""
        cached = await self._cache.fetch(model_name, number, files=any(factory.needs_files for factory in factories))
        factory = next(factory for factory in factories if factory.accepts(cached.version))
        key = (model_name, number, factory.name, cached.version.create_time.ToNanoseconds())
        loaded = self._loaded.get(key)
        if loaded is None:
            loaded = self._loaded[key] = await self._built(cached, factory)
            _log.info("model_loaded", model=model_name, version=number, runtime=loaded.runtime.platform)
        return loaded

    async def _built(self, cached: CachedModel, factory: RuntimeFactory) -> LoadedModel:
        version = cached.version
        if not version.HasField("signature") or not version.signature.inputs:
            raise _without_signature(version)
        runtime, columns = await factory.load(version, columns_of(version.signature), cached.files)
        metrics = self._metrics.for_model(version.model_name, version.version)
        enrichment = Enrichment(version=version, columns=columns, reader=self._reader, metrics=metrics)
        await enrichment.prepare()
        return LoadedModel(
            version=version,
            columns=columns,
            enrichment=enrichment,
            runtime=runtime,
            batching=self._batching(factory),
            metrics=metrics,
            hold=cached.hold,
        )

    def _batching(self, factory: RuntimeFactory) -> BatchingOptions:
        settings, max_concurrent = self._settings, factory.max_concurrent_batches
        slow = max(max_concurrent, settings.max_concurrent_slow_batches)
        return BatchingOptions(
            max_batch_size=settings.max_batch_size,
            max_concurrent=max_concurrent,
            max_concurrent_slow=slow,
            max_queue_size=settings.max_queue_size,
        )


def _without_signature(version: models_pb2.ModelVersion) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_WITHOUT_SIGNATURE,
        f"Version {version.version} of the model {version.model_name!r} has no signature, so its inputs are not known.",
        remedy="Log the model with a signature (mlflow.models.infer_signature), register and deploy it again.",
        resource=("model version", f"{version.model_name}/{version.version}"),
    )
