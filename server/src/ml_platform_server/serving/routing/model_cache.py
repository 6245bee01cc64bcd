"""Models on this machine's disk, so that what is deployed keeps answering, after a restart too, while MLflow is down.

An entry is a folder `<name>/<version>` with the version's description in `version.pb` and, if it runs here, its files in `model`.
It is made beside its place and renamed into it, so that several processes may share the cache and none sees half an entry.

What was not used for long goes, and what was not used for longest when the cache grows too large (cache_entries.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
import weakref
from pathlib import Path
from typing import Protocol

import structlog

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.routing import cache_entries
from ml_platform_server.serving.routing.cache_entries import DESCRIPTION, FILES, PARTIAL, CachedModel, Hold
from ml_platform_server.serving.runtimes.onnx.graphs import has_graph, is_native

_log = structlog.get_logger(__name__)

# Between two looks for what is not needed any more.
SWEEP_SECONDS = 3600.0
_GONE = (errors_pb2.ERROR_REASON_MODEL_NOT_FOUND, errors_pb2.ERROR_REASON_MODEL_VERSION_NOT_FOUND)


class Registry(Protocol):
    """What the engine asks of the model registry."""

    async def get(self, model_name: str) -> models_pb2.RegisteredModel:
        """One registered model; MODEL_NOT_FOUND."""
        ...

    async def get_version(self, model_name: str, version: int) -> models_pb2.ModelVersion:
        """One version, with its signature and flavours; MODEL_NOT_FOUND, MODEL_VERSION_NOT_FOUND."""
        ...

    async def download(self, model_name: str, version: int, target: Path) -> Path:
        """The version's files, somewhere in `target`; MODEL_ARTIFACT_MISSING, MODEL_ARTIFACT_UNREADABLE."""
        ...

    async def download_graph(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        """The files of the ONNX model that the version was converted to; as `download`."""
        ...


class ModelCache:
    """The folder of all entries.

    Args:
        folder: where it is. Processes of one machine may share it.
        registry: where models come from.
        most_bytes: how large it may grow. What is in use stays, even beyond that.
        most_seconds: how long an entry stays that nothing uses.
    """

    def __init__(
        self, *, folder: Path, registry: Registry, most_bytes: float = float("inf"), most_seconds: float = float("inf")
    ) -> None:
        self._folder = folder
        self._registry = registry
        self._most_bytes = most_bytes
        self._most_seconds = most_seconds
        self._holds: weakref.WeakSet[Hold] = weakref.WeakSet()
        self._sweeping: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to remove what is not needed, now and then. First of all go the remains of processes that crashed."""
        await asyncio.to_thread(cache_entries.sweep, self._folder)
        self._sweeping = asyncio.create_task(self._sweep_forever())

    async def close(self) -> None:
        """Remove nothing more."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.gather(self._sweeping, return_exceptions=True)

    async def fetch(self, model_name: str, number: int, *, files: bool = True) -> CachedModel:
        """Find a version, in the registry or, when that fails, on the disk.

        Args:
            model_name: the registered model.
            number: the version's number.
            files: whether its ONNX graph is wanted, if it has one. No other files are ever fetched.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING when version or files are gone; MODEL_CACHE_UNAVAILABLE when the disk does not
                take the files; whatever the registry gives when it is down.
        """
        place = self._place(model_name, number)
        kept = await asyncio.to_thread(cache_entries.read, place)
        try:
            version = await self._described(model_name, number)
            needed = files and has_graph(version)
            if kept is not None and not cache_entries.same(kept.version, version):
                kept = None  # It is of another version, which had the number before.
            if kept is None or (needed and not kept.files.is_dir()):
                return self._watched(await self._kept(place, version, files=needed))
            return self._watched(CachedModel(version, kept.files, kept.hold))
        except PlatformError as error:
            if kept is not None and cache_entries.complete(kept, files=files):
                _log.warning("model_served_from_cache", model=model_name, version=number, reason=error.reason_name)
                return self._watched(kept)
            raise

    async def forget(self, model_name: str, number: int) -> None:
        """Drop an entry that turned out to be of no use, so that it is fetched anew the next time."""
        await asyncio.to_thread(cache_entries.remove, self._folder, self._place(model_name, number))

    async def evict(self) -> None:
        """Remove what nothing has used for long, and more if the cache is too large; what is in use, by any process, stays."""
        for hold in list(self._holds):
            with contextlib.suppress(OSError):
                await asyncio.to_thread(os.utime, hold.place / DESCRIPTION)
        await asyncio.to_thread(cache_entries.evict, self._folder, self._most_bytes, self._most_seconds)

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self.evict()
            except OSError as error:
                _log.warning("model_cache_not_swept", error=repr(error))

    def _place(self, model_name: str, number: int) -> Path:
        return self._folder / cache_entries.safe(model_name) / str(number)

    def _watched(self, cached: CachedModel) -> CachedModel:
        if cached.hold is not None:
            self._holds.add(cached.hold)
        return cached

    async def _kept(self, place: Path, version: models_pb2.ModelVersion, *, files: bool) -> CachedModel:
        """The version, stored. Without files it is served all the same if the disk does not take it."""
        try:
            await self._store(place, version, files=files)
            hold = await asyncio.to_thread(cache_entries.held, place)
            await self.evict()
        except OSError as error:
            _log.warning("model_not_cached", model=version.model_name, version=version.version, error=repr(error))
            if files:
                raise _cache_unavailable(version) from error
            return CachedModel(version, place / FILES)
        return CachedModel(version, place / FILES, hold)

    async def _described(self, model_name: str, number: int) -> models_pb2.ModelVersion:
        try:
            version = await self._registry.get_version(model_name, number)
        except PlatformError as error:
            raise _artifact_missing(model_name, number) if error.reason in _GONE else error from None
        if not version.flavors:  # The registry remembers the version, and its files are not there to tell what it is.
            raise _artifact_missing(model_name, number)
        return version

    async def _store(self, place: Path, version: models_pb2.ModelVersion, *, files: bool) -> None:
        partial = self._folder / f"{PARTIAL}{uuid.uuid4().hex}"
        await asyncio.to_thread(partial.mkdir, parents=True)
        try:
            found = None
            if files:
                target = partial / "download"
                await asyncio.to_thread(target.mkdir)
                found = await self._download(version, target)
            await asyncio.to_thread(cache_entries.put, partial, found, version, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    async def _download(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        if is_native(version):
            return await self._registry.download(version.model_name, version.version, target)
        return await self._registry.download_graph(version, target)


def _cache_unavailable(version: models_pb2.ModelVersion) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_CACHE_UNAVAILABLE,
        f"The server's disk does not take the files of version {version.version} of the model {version.model_name!r}.",
        remedy="Try again shortly. If it goes on, tell whoever runs the server: the disk of its model cache is full or broken.",
        resource=("model version", f"{version.model_name}/{version.version}"),
        retry_after=5.0,
    )


def _artifact_missing(model_name: str, number: int) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        f"Version {number} of the model {model_name!r} is deployed, but the registry has its entry or its files no more.",
        remedy="Restore the files, or train, register and deploy the model again.",
        resource=("model version", f"{model_name}/{number}"),
    )
