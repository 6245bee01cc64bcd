"""Keys of a user's tags that MLflow does not take, such as those with an emoji, encoded into keys that it takes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

# MLflow's own rule for keys. It reads a key as a path too, and refuses one that the file system would write another way.
_TAKEN = re.compile(r"[/\w.\- :]+")
_PREFIX = "ml_platform.key."
_TO_ENCODE = re.compile(r"[^\w.\- ]")
_ENCODED = re.compile(r":([0-9a-f]+):")


def encoded(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with keys that MLflow takes."""
    return {_encode(key): value for key, value in tags.items()}


def decoded(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags with the keys that the user gave."""
    return {_decode(key): value for key, value in tags.items()}


def _encode(key: str) -> str:
    path = posixpath.normpath(key)
    if _TAKEN.fullmatch(key) and path == key and path != "." and not path.startswith(("/", "..")):
        return key
    return _PREFIX + _TO_ENCODE.sub(lambda found: f":{ord(found[0]):x}:", key)


def _decode(key: str) -> str:
    if not key.startswith(_PREFIX):
        return key
    return _ENCODED.sub(lambda found: chr(int(found[1], 16)), key.removeprefix(_PREFIX))
