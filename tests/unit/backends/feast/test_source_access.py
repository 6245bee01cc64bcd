"""Which sources a feature view may have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ml_platform_server.backends.feast.registry import source_access
from ml_platform_server.backends.feast.registry.source_access import Roots
from tests.support.refusals import refused


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A place with a file in it, beside one that is not open."""
    (tmp_path / "open" / "deep").mkdir(parents=True)
    (tmp_path / "open" / "deep" / "a.parquet").touch()
    (tmp_path / "open-not").mkdir()
    (tmp_path / "open-not" / "a.parquet").touch()
    return tmp_path / "open"


def test_what_lies_in_a_place_is_allowed(root: Path) -> None:
    """The place itself, folders and files in it, whether they exist or not, and paths that come back to it."""
    roots = Roots([str(root)])
    for path in (".", "deep", "deep/a.parquet", "nowhere.parquet", "../open/deep", "x/../deep/a.parquet"):
        roots.check(f"{root}/{path}")


def test_everything_else_is_refused_in_the_same_words(root: Path) -> None:
    """A file that exists, one that does not, a folder, a device, an address: nothing tells one from another."""
    roots = Roots([str(root), "s3://bucket/features"])
    outside = [
        "/",
        "/etc/shadow",
        "/etc/passwd",
        "/no/such",
        "/dev/zero",
        str(root.parent),
        f"{root}-not/a.parquet",
        f"{root}/../open-not/a.parquet",
        f"{root}/a\0b",
        f"/{'x' * 1000}",
        f"file://localhost{root}/a.parquet",
        f"file://{str(root)[1:]}/a.parquet",
        "http://127.0.0.1:9/x.parquet",
        "http://127.0.0.1/x.parquet",
        "S3://bucket/features/x.parquet",
        "s3://bucket/features-not/x.parquet",
        "s3://bucket",
        "s3://bucket/features/../other/x.parquet",
        "s3://bucket/features/%2e%2E/other/x.parquet",
        "s3://bucket/features/x.parquet?endpoint_override=127.0.0.1:9",
        "s3://bucket/features/x.parquet#y",
        "s3://key:secret@bucket/features/x.parquet",
        "simplecache::s3://bucket/features/x.parquet",
        "s3://bucket/features/x.parquet::http://127.0.0.1:9",
        "",
    ]
    texts = set()
    for path in outside:
        with refused("FEATURE_SOURCE_REFUSED") as error:
            roots.check(path)
        texts.add((error.value.message, error.value.remedy, error.value.violations))
    assert len(texts) == 1


def test_what_lies_elsewhere_is_not_looked_at(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole disk is refused at once."""
    roots = Roots([str(root)])

    def touched(*_: object) -> None:
        raise AssertionError

    for name in ("walk", "stat", "lstat", "scandir"):
        monkeypatch.setattr(os, name, touched)
    monkeypatch.setattr(os.path, "realpath", touched)
    for path in ("/", "/etc/shadow", str(root.parent)):
        with refused("FEATURE_SOURCE_REFUSED"):
            roots.check(path)


def test_links_are_followed(root: Path) -> None:
    """One that leads out is refused, wherever it stands and whether its end exists; one that stays inside is not."""
    outside = root.parent / "open-not"
    (root / "out.parquet").symlink_to(outside / "a.parquet")
    (root / "out").symlink_to(outside)
    (root / "lost.parquet").symlink_to(outside / "nowhere")
    (root / "mixed").mkdir()
    (root / "mixed" / "in.parquet").symlink_to(root / "deep" / "a.parquet")
    roots = Roots([str(root)])
    for path in ("out.parquet", "out", "out/a.parquet", "out/nowhere", "lost.parquet", "."):
        with refused("FEATURE_SOURCE_REFUSED"):
            roots.check(f"{root}/{path}")
    roots.check(f"{root}/mixed")
    roots.check(f"{root}/mixed/in.parquet")
    (root / "mixed" / "out").symlink_to(outside)
    with refused("FEATURE_SOURCE_REFUSED"):
        roots.check(f"{root}/mixed")
    Roots([str(root), str(outside)]).check(f"{root}/mixed")


def test_a_place_may_be_a_link(root: Path) -> None:
    """Its files may be named by the link and by what it stands for."""
    link = root.parent / "link"
    link.symlink_to(root)
    for place in (link, root):
        Roots([str(link)]).check(f"{place}/deep/a.parquet")


def test_a_scheme_may_be_opened_as_a_whole() -> None:
    """And a prefix may end with a slash or not."""
    Roots(["s3://"]).check("s3://any/x.parquet")
    Roots(["s3://bucket/features/"]).check("s3://bucket/features/x.parquet")
    Roots(["s3://bucket/features"]).check("s3://bucket/features")


def test_a_folder_with_too_many_entries_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at them would take longer than a call."""
    monkeypatch.setattr(source_access, "MOST_FILES", 1)
    with refused("INVALID_FIELDS"):
        Roots([str(root)]).check(str(root))
