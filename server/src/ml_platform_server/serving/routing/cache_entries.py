"""The entries of the model cache on the disk, which the processes of one machine share.

A process holds a shared lock on the folder of an entry while it loads or serves the version, and no process removes an entry that
another one holds. The time of last use is that of the description's file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
import uuid
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import structlog
from google.protobuf.message import DecodeError

from ml_platform.v1 import models_pb2
from ml_platform_server.serving.runtimes.onnx.graphs import has_graph

_log = structlog.get_logger(__name__)

DESCRIPTION = "version.pb"
FILES = "model"
PARTIAL = ".partial-"
# An entry that was used so recently may be about to be loaded.
FRESH_SECONDS = 600.0
# How often a new entry may have been replaced by another process before it is held.
REPLACED_MEANWHILE = 5


class Hold:
    """A shared lock on an entry, which keeps every process from removing it. It ends with the last reference to it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        descriptor = os.open(place, os.O_RDONLY)
        weakref.finalize(self, os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            raise  # Somebody is removing the entry.
        except OSError as error:
            # Some network file systems have no locks. Nothing is ever removed from those.
            _log.debug("model_cache_without_locks", error=repr(error))
        # The entry may have been removed or replaced before the lock was there.
        if not os.path.samestat(os.fstat(descriptor), place.stat()):
            raise FileNotFoundError(place)
        with contextlib.suppress(OSError):  # The folder may be read-only.
            os.utime(place / DESCRIPTION)


def held(place: Path) -> Hold:
    """Hold an entry that is there, though another process may just be replacing it.

    Raises:
        OSError: it is not there.
    """
    for _ in range(REPLACED_MEANWHILE):
        with contextlib.suppress(OSError):
            return Hold(place)
        time.sleep(0.02)
    return Hold(place)


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A version's description and the folder of its files, which is there only if files were asked for.

    The entry stays for as long as `hold` is referred to. None: it could not be kept on the disk, and has no files.
    """

    version: models_pb2.ModelVersion
    files: Path
    hold: Hold | None = None


def put(partial: Path, found: Path | None, version: models_pb2.ModelVersion, place: Path) -> None:
    """Make an entry of the files that were found, beside its place, and move it there.

    An entry of the same version that another process has put there meanwhile stays: somebody may be loading it.
    """
    kept = read(place)
    if kept is not None and same(kept.version, version) and (found is None or kept.files.is_dir()):
        return
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


def read(place: Path) -> CachedModel | None:
    """The entry at a place, held; None if there is none."""
    try:
        hold = Hold(place)
        version = models_pb2.ModelVersion.FromString((place / DESCRIPTION).read_bytes())
    except (OSError, DecodeError):
        return None
    return CachedModel(version, place / FILES, hold)


def complete(kept: CachedModel, *, files: bool) -> bool:
    """Whether an entry has all that is wanted of it."""
    return kept.files.is_dir() or not (files and has_graph(kept.version))


def same(one: models_pb2.ModelVersion, other: models_pb2.ModelVersion) -> bool:
    """Whether two descriptions are of one version: numbers are given again when a registered model is deleted and made anew.

    A version that was converted, or converted again, needs other files than before.
    """
    return (one.run_id, one.create_time, one.onnx_conversion.model_uri) == (
        other.run_id,
        other.create_time,
        other.onnx_conversion.model_uri,
    )


def sweep(folder: Path) -> None:
    """Remove what crashed processes left half made, a day later: another process may be at work in the same cache."""
    for partial in folder.glob(f"{PARTIAL}*"):
        if time.time() - partial.stat().st_mtime > 24 * 3600:
            shutil.rmtree(partial, ignore_errors=True)


def evict(folder: Path, most_bytes: float, most_seconds: float) -> None:
    """Remove entries, the one that was used longest ago first, until none is too old and all together are not too large."""
    entries = sorted(_entries(folder))
    total, now = sum(size for _, size, _ in entries), time.time()
    for used, size, place in entries:
        idle = now - used
        if idle < FRESH_SECONDS or (idle < most_seconds and total <= most_bytes):
            break
        if _remove_unused(folder, place):
            total -= size
            _log.info("model_evicted", place=str(place.relative_to(folder)), idle_seconds=round(idle), bytes=size)


def _entries(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """When each entry was used last, how large it is, and where."""
    for described in folder.glob(f"[!.]*/*/{DESCRIPTION}"):
        with contextlib.suppress(OSError):  # Another process may remove or replace it meanwhile.
            size = sum(file.stat().st_size for file in described.parent.rglob("*") if file.is_file())
            yield described.stat().st_mtime, size, described.parent


def _remove_unused(folder: Path, place: Path) -> bool:
    """Remove an entry unless some process holds it. Returns whether it is gone."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(folder, place)  # While the lock is there: nobody can begin to use it meanwhile.
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def remove(folder: Path, place: Path) -> None:
    """Remove an entry in one step, as far as other processes can see."""
    partial = folder / f"{PARTIAL}{uuid.uuid4().hex}"
    with contextlib.suppress(FileNotFoundError):
        place.rename(partial)
    shutil.rmtree(partial, ignore_errors=True)


def safe(name: str) -> str:
    """A model's name as a folder's name."""
    safe = quote(name, safe=" ")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe
