"""Decides which Parquet sources a feature view may have: those below the places that the operator opened.

Everything else is refused in the same words, whether it exists or not, so that registering a view reveals nothing of the files of
the machine or of the network around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote

from ml_platform.v1 import errors_pb2
from ml_platform_server.errors import PlatformError, Violation

FIELD = "feature_view.source.path"
MOST_FILES = 20_000
"""Entries of a source's folder that are looked at."""


class Roots:
    """The places that sources may lie in.

    Args:
        places: folders, and prefixes of URLs such as "s3://bucket/features".
    """

    def __init__(self, places: Sequence[str]) -> None:
        folders = [os.path.abspath(place.removeprefix("file://")) for place in places if not is_url(place)]  # noqa: PTH100  # keeps links
        self._named = tuple({*folders, *map(os.path.realpath, folders)})
        self._real = tuple(map(os.path.realpath, folders))
        self._urls = tuple(place for place in places if is_url(place))

    def check(self, path: str) -> None:
        """Refuse a source that does not lie in one of the places, nor any link in it that leads out of them.

        Raises:
            PlatformError: FEATURE_SOURCE_REFUSED.
        """
        allowed = self._has_url(path) if is_url(path) else self._has_file(path)
        if not allowed:
            raise _refused()

    def _has_url(self, url: str) -> bool:
        # A query may name another endpoint, and dots lead out of the prefix.
        if any(sign in url for sign in "?#@\\") or "::" in url or {".", ".."} & set(unquote(url).split("/")):
            return False
        return any(url == root or url.startswith(root if root.endswith("/") else f"{root}/") for root in self._urls)

    def _has_file(self, path: str) -> bool:
        # By its name first: what lies elsewhere is not even looked at.
        if "\0" in path or not _within(os.path.normpath(path), self._named):
            return False
        real = os.path.realpath(path)
        return _within(real, self._real) and all(_within(os.path.realpath(link), self._real) for link in _links(real))


def is_url(path: str) -> bool:
    """Whether a source is not on this machine."""
    return "://" in path and not path.startswith("file:///")


def _within(path: str, folders: Sequence[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def _links(folder: str) -> Iterator[str]:
    """The links in a folder, at any depth."""
    seen = 0
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            seen += 1
            if seen > MOST_FILES:
                raise _too_many()
            if (entry := Path(base, name)).is_symlink():
                yield str(entry)


def _refused() -> PlatformError:
    problem = "the platform reads no features from there"
    return PlatformError(
        errors_pb2.ERROR_REASON_FEATURE_SOURCE_REFUSED,
        f"{FIELD}: {problem}.",
        remedy="Give a Parquet file, or a folder of them, in a place that the platform's operator has opened for features "
        "(ML_PLATFORM_FEAST__SOURCE_ROOTS; `make up DATA=folder` opens a folder for a local stack).",
        violations=[Violation(FIELD, problem)],
    )


def _too_many() -> PlatformError:
    problem = f"the folder has more than {MOST_FILES} entries"
    return PlatformError(
        errors_pb2.ERROR_REASON_INVALID_FIELDS,
        f"{FIELD}: {problem}.",
        remedy="Give the folder that holds this view's files only.",
        violations=[Violation(FIELD, problem)],
    )
