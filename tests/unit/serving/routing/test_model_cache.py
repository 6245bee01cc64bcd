"""Models on this machine's disk."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ml_platform_server.errors import PlatformError
from ml_platform_server.serving.routing.model_cache import ModelCache
from tests.support.serving import FakeRegistry, column, save_onnx, sum_graph


@pytest.fixture
def registry(tmp_path: Path) -> FakeRegistry:
    made = FakeRegistry()
    made.add("m", 1, [column("a")], save_onnx(tmp_path / "artifacts", sum_graph(1)))
    return made


def _cache(tmp_path: Path, registry: FakeRegistry) -> ModelCache:
    return ModelCache(folder=tmp_path / "cache", registry=registry)


async def _opened_and_closed(cache: ModelCache) -> None:
    await cache.open()
    await cache.close()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_version_is_downloaded_once_and_its_origin_is_left_alone(tmp_path: Path, registry: FakeRegistry) -> None:
    """A second fetch finds the first one's files; files that the registry hands out where they lie stay there."""
    cache = _cache(tmp_path, registry)

    first = await cache.fetch("m", 1)
    second = await cache.fetch("m", 1)

    assert (registry.downloads, first.files) == (1, second.files)
    assert (first.files / "model.onnx").is_file()
    assert (tmp_path / "artifacts" / "model.onnx").is_file()
    assert _names(tmp_path / "cache") == ["m"]


async def test_version_is_there_while_the_registry_is_down(tmp_path: Path, registry: FakeRegistry) -> None:
    """A new process with the same folder serves what an earlier one fetched, signature included, without a registry."""
    await _cache(tmp_path, registry).fetch("m", 1)
    registry.down = True

    found = await _cache(tmp_path, registry).fetch("m", 1)

    assert found.version == registry.versions["m", 1]
    assert (found.files / "model.onnx").is_file()


async def test_version_that_was_never_fetched_needs_the_registry(tmp_path: Path, registry: FakeRegistry) -> None:
    """Without a copy, a registry that is down is BACKEND_UNAVAILABLE."""
    registry.down = True

    with pytest.raises(PlatformError) as caught:
        await _cache(tmp_path, registry).fetch("m", 1)

    assert caught.value.reason_name == "BACKEND_UNAVAILABLE"


@pytest.mark.parametrize("gone", ["version", "files", "description"])
async def test_what_is_gone_is_told_unless_there_is_a_copy(tmp_path: Path, registry: FakeRegistry, gone: str) -> None:
    """A version without entry or files is MODEL_ARTIFACT_MISSING for a new process, and served by one that has it."""
    cache = _cache(tmp_path, registry)
    await cache.fetch("m", 1)
    match gone:
        case "version":
            del registry.versions["m", 1]
        case "files":
            del registry.files["m", 1]
        case "description":
            del registry.versions["m", 1].flavors[:]

    kept = await cache.fetch("m", 1)
    with pytest.raises(PlatformError) as caught:
        await ModelCache(folder=tmp_path / "other", registry=registry).fetch("m", 1)

    assert (kept.files / "model.onnx").is_file()
    assert caught.value.reason_name == "MODEL_ARTIFACT_MISSING"


async def test_number_given_again_is_another_version(tmp_path: Path, registry: FakeRegistry) -> None:
    """When a model is deleted and made anew, version 1 is fetched again."""
    cache = _cache(tmp_path, registry)
    await cache.fetch("m", 1)
    registry.add("m", 1, [column("b")], save_onnx(tmp_path / "new", sum_graph(1, scale=2.0)), created=2)

    found = await cache.fetch("m", 1)

    assert registry.downloads == 2
    assert (found.files / "model.onnx").read_bytes() == (tmp_path / "new" / "model.onnx").read_bytes()


async def test_the_graph_of_a_converted_version_is_kept(tmp_path: Path, registry: FakeRegistry) -> None:
    """Of a version that was converted the graph is fetched, never its own files, and kept for when the registry is down."""
    registry.add("pickled", 1, [column("a")], flavors=("sklearn", "python_function"))
    registry.convert("pickled", 1, "models:/m-1", save_onnx(tmp_path / "graph", sum_graph(1)))
    await _cache(tmp_path, registry).fetch("pickled", 1)
    registry.down = True

    found = await _cache(tmp_path, registry).fetch("pickled", 1)

    assert (registry.downloads, (found.files / "model.onnx").is_file()) == (1, True)


async def test_a_new_graph_replaces_the_old_one(tmp_path: Path, registry: FakeRegistry) -> None:
    """A version that was converted again, or for the first time, is fetched again."""
    registry.add("pickled", 1, [column("a")], flavors=("sklearn", "python_function"))
    cache = _cache(tmp_path, registry)
    before = await cache.fetch("pickled", 1)
    without = before.files.exists()
    for scale in (1.0, 2.0):
        registry.convert("pickled", 1, f"models:/m-{scale}", save_onnx(tmp_path / f"graph-{scale}", sum_graph(1, scale=scale)))
        found = await cache.fetch("pickled", 1)

    assert (without, registry.downloads) == (False, 2)
    assert (found.files / "model.onnx").read_bytes() == (tmp_path / "graph-2.0" / "model.onnx").read_bytes()


async def test_files_are_left_out_where_nobody_needs_them(tmp_path: Path, registry: FakeRegistry) -> None:
    """A model that runs elsewhere is described here and not downloaded."""
    found = await _cache(tmp_path, registry).fetch("m", 1, files=False)

    assert (registry.downloads, found.files.exists()) == (0, False)


async def test_names_cannot_lead_out_of_the_folder(tmp_path: Path, registry: FakeRegistry) -> None:
    """Whatever a model is called, its entry is in the cache's folder."""
    registry.add("../up", 1, [column("a")], registry.files["m", 1])
    registry.add("..", 1, [column("a")], registry.files["m", 1])
    cache = _cache(tmp_path, registry)

    for name in ("../up", ".."):
        await cache.fetch(name, 1)

    assert _names(tmp_path) == ["artifacts", "cache"]
    assert _names(tmp_path / "cache") == ["%2E.", "%2E.%2Fup"]


async def test_leftovers_are_swept_when_they_are_old(tmp_path: Path, registry: FakeRegistry) -> None:
    """What a crashed process left half made goes after a day; what may still be in work stays."""
    old, young = tmp_path / "cache" / ".partial-old", tmp_path / "cache" / ".partial-young"
    old.mkdir(parents=True)
    young.mkdir()
    os.utime(old, (time.time() - 100_000,) * 2)

    await _opened_and_closed(_cache(tmp_path, registry))

    assert (old.exists(), young.exists()) == (False, True)


class Shelf:
    """A cache with versions 1 to 3 of a model, each used some days ago, the first one longest ago. Nothing holds them."""

    def __init__(self, tmp_path: Path, registry: FakeRegistry) -> None:
        self.folder = tmp_path / "cache"
        self.registry = registry
        for version in (2, 3):
            registry.add("m", version, [column("a")], registry.files["m", 1])

    async def fill(self) -> None:
        """Fetch all, and pretend that it was days ago."""
        for version in (1, 2, 3):
            await ModelCache(folder=self.folder, registry=self.registry).fetch("m", version)
            used = time.time() - (10 - version) * 86400
            os.utime(self.folder / "m" / str(version) / "version.pb", (used, used))

    def size(self) -> int:
        """The bytes of one entry."""
        return sum(file.stat().st_size for file in (self.folder / "m" / "1").rglob("*") if file.is_file())

    async def evicted_by(self, **limits: float) -> list[str]:
        """What is left after one look, without the description of what another version would be."""
        await ModelCache(folder=self.folder, registry=self.registry, **limits).evict()
        return _names(self.folder / "m")


@pytest.fixture
async def shelf(tmp_path: Path, registry: FakeRegistry) -> Shelf:
    made = Shelf(tmp_path, registry)
    await made.fill()
    return made


async def test_what_nothing_uses_goes_after_a_time(shelf: Shelf) -> None:
    """Used 9, 8 and 7 days ago, with a limit of 7.5 days: the last one stays."""
    assert await shelf.evicted_by(most_seconds=7.5 * 86400) == ["3"]
    assert _names(shelf.folder) == ["m"]


async def test_a_cache_that_is_too_large_loses_what_was_used_longest_ago(shelf: Shelf) -> None:
    """No more than has to go."""
    assert await shelf.evicted_by(most_bytes=2 * shelf.size() + 10) == ["2", "3"]


async def test_what_this_process_uses_stays(shelf: Shelf) -> None:
    """However old and large; once nothing refers to it, it goes like any other."""
    cache = ModelCache(folder=shelf.folder, registry=shelf.registry, most_bytes=1, most_seconds=1)
    loaded = await cache.fetch("m", 1)
    await cache.evict()
    assert _names(shelf.folder / "m") == ["1"]
    os.utime(shelf.folder / "m" / "1" / "version.pb", (0, 0))
    await cache.evict()
    assert time.time() - (shelf.folder / "m" / "1" / "version.pb").stat().st_mtime < 60  # It counts as used all the while.
    del loaded
    os.utime(shelf.folder / "m" / "1" / "version.pb", (0, 0))
    await cache.evict()
    assert _names(shelf.folder / "m") == []


async def test_what_another_process_uses_stays(shelf: Shelf) -> None:
    """As long as it lives: a lock ends with its process, however that ends."""
    place = shelf.folder / "m" / "1"
    hold = "import sys, pathlib; from ml_platform_server.serving.routing.cache_entries import Hold; "
    hold += "held = Hold(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(  # noqa: ASYNC220  # nothing else runs on this loop
        [sys.executable, "-c", hold, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        os.utime(place / "version.pb", (0, 0))
        assert await shelf.evicted_by(most_bytes=1) == ["1"]
        other.kill()
    assert await shelf.evicted_by(most_bytes=1) == []


async def test_what_was_just_fetched_stays(tmp_path: Path, registry: FakeRegistry) -> None:
    """It may be about to be loaded."""
    await ModelCache(folder=tmp_path / "cache", registry=registry).fetch("m", 1)
    cache = ModelCache(folder=tmp_path / "cache", registry=registry, most_bytes=1, most_seconds=1)
    await cache.evict()
    assert _names(tmp_path / "cache" / "m") == ["1"]


async def test_an_entry_that_was_evicted_is_fetched_again(shelf: Shelf) -> None:
    """Eviction costs a download and no prediction."""
    await shelf.evicted_by(most_bytes=1)
    found = await ModelCache(folder=shelf.folder, registry=shelf.registry).fetch("m", 2)
    assert (found.files / "model.onnx").is_file()


async def test_a_disk_that_takes_nothing_has_a_reason_of_its_own(tmp_path: Path, registry: FakeRegistry) -> None:
    """The files are not missing, and who needs none of them is served all the same."""
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(PlatformError) as caught:
        await _cache(tmp_path, registry).fetch("m", 1)
    assert (caught.value.reason_name, caught.value.code.name) == ("MODEL_CACHE_UNAVAILABLE", "UNAVAILABLE")
    assert (await _cache(tmp_path, registry).fetch("m", 1, files=False)).version == registry.versions["m", 1]


async def test_an_entry_of_another_version_of_that_number_is_never_served(tmp_path: Path, registry: FakeRegistry) -> None:
    """Not even when the files of the version itself cannot be had."""
    await _cache(tmp_path, registry).fetch("m", 1)
    registry.add("m", 1, [column("b")], created=2)
    registry.files.clear()
    with pytest.raises(PlatformError) as caught:
        await _cache(tmp_path, registry).fetch("m", 1)
    assert caught.value.reason_name == "MODEL_ARTIFACT_MISSING"


async def test_a_file_system_without_locks_serves_and_keeps_everything(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be removed safely there."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    found = await ModelCache(folder=shelf.folder, registry=shelf.registry).fetch("m", 1)
    assert (found.files / "model.onnx").is_file()
    assert await shelf.evicted_by(most_bytes=1, most_seconds=1) == ["1", "2", "3"]
