"""Models on this machine's disk, so that what is deployed keeps answering, after a restart too, while MLflow is down.

An entry is a folder `<name>/<version>` with the version's description in `version.pb` and, if it runs here, its files in `model`.
It is made beside its place and renamed into it, so that several processes may share the cache and none sees half an entry.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import structlog
from google.protobuf.message import DecodeError

from ml_platform.v1 import errors_pb2, models_pb2
from ml_platform_server.errors import PlatformError

_log = structlog.get_logger(__name__)

DESCRIPTION = "version.pb"
FILES = "model"
PARTIAL = ".partial-"
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
        """The version's files, somewhere in `target`; MODEL_ARTIFACT_MISSING."""
        ...

    async def download_graph(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        """The files of the ONNX model that the version was converted to; MODEL_ARTIFACT_MISSING."""
        ...


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A version's description and the folder of its files, which is there only if files were asked for."""

    version: models_pb2.ModelVersion
    files: Path


class ModelCache:
    """The folder of all entries."""

    def __init__(self, *, folder: Path, registry: Registry) -> None:
        self._folder = folder
        self._registry = registry

    async def fetch(self, model_name: str, number: int, *, files: bool = True) -> CachedModel:
        """Find a version, in the registry or, when that fails, on the disk.

        Args:
            model_name: the registered model.
            number: the version's number.
            files: whether its ONNX graph is wanted, if it has one. No other files are ever fetched.

        Raises:
            PlatformError: MODEL_ARTIFACT_MISSING when version or files are gone; whatever the registry gives when it is down.
        """
        place = self._folder / _safe(model_name) / str(number)
        kept = await asyncio.to_thread(_read, place)
        try:
            version = await self._described(model_name, number)
            needed = files and has_graph(version)
            if kept is None or not _same(kept.version, version) or (needed and not kept.files.is_dir()):
                await self._store(place, version, files=needed)
            return CachedModel(version, place / FILES)
        except PlatformError as error:
            if kept is not None and _complete(kept, files=files):
                _log.warning("model_served_from_cache", model=model_name, version=number, reason=error.reason_name)
                return kept
            raise

    async def sweep(self) -> None:
        """Remove what crashed processes left half made, a day later: another process may be at work in the same cache."""
        await asyncio.to_thread(_sweep, self._folder)

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
            await asyncio.to_thread(_put, partial, found, version, place)
        finally:
            await asyncio.to_thread(shutil.rmtree, partial, ignore_errors=True)

    async def _download(self, version: models_pb2.ModelVersion, target: Path) -> Path:
        if is_native(version):
            return await self._registry.download(version.model_name, version.version, target)
        return await self._registry.download_graph(version, target)


def is_native(version: models_pb2.ModelVersion) -> bool:
    """Whether a version is an ONNX model itself."""
    return "onnx" in version.flavors


def has_graph(version: models_pb2.ModelVersion) -> bool:
    """Whether there is an ONNX graph that answers for a version: its own, or the one that it was converted to."""
    return is_native(version) or version.acceleration.state == models_pb2.ACCELERATION_STATE_CONVERTED


def _put(partial: Path, found: Path | None, version: models_pb2.ModelVersion, place: Path) -> None:
    entry = partial / "entry"
    entry.mkdir()
    if found is not None:
        # The registry hands out files that lie on this machine where they lie; those are not ours to move.
        _ = found.rename(entry / FILES) if found.is_relative_to(partial) else shutil.copytree(found, entry / FILES)
    (entry / DESCRIPTION).write_bytes(version.SerializeToString())
    place.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        place.rename(partial / "old")
    try:
        entry.rename(place)
    except OSError:
        # Another process was quicker, with the same version.
        if not place.is_dir():
            raise


def _read(place: Path) -> CachedModel | None:
    try:
        version = models_pb2.ModelVersion.FromString((place / DESCRIPTION).read_bytes())
    except (OSError, DecodeError):
        return None
    return CachedModel(version, place / FILES)


def _complete(kept: CachedModel, *, files: bool) -> bool:
    return kept.files.is_dir() or not (files and has_graph(kept.version))


def _same(one: models_pb2.ModelVersion, other: models_pb2.ModelVersion) -> bool:
    """Whether two descriptions are of one version: numbers are given again when a registered model is deleted and made anew.

    A version that was converted, or converted again, needs other files than before.
    """
    return (one.run_id, one.create_time, one.acceleration.model_uri) == (
        other.run_id,
        other.create_time,
        other.acceleration.model_uri,
    )


def _sweep(folder: Path) -> None:
    for partial in folder.glob(f"{PARTIAL}*"):
        if time.time() - partial.stat().st_mtime > 24 * 3600:
            shutil.rmtree(partial, ignore_errors=True)


def _safe(name: str) -> str:
    """A model's name as a folder's name."""
    safe = quote(name, safe=" ")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def _artifact_missing(model_name: str, number: int) -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_MODEL_ARTIFACT_MISSING,
        f"Version {number} of the model {model_name!r} is deployed, but the registry has its entry or its files no more.",
        remedy="Restore the files, or train, register and deploy the model again.",
        resource=("model version", f"{model_name}/{number}"),
    )
