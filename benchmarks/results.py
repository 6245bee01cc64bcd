"""The raw results: one file a part, written as soon as the part is done, so that a later part's failure loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import machine
from deploy.local.config import ROOT

FOLDER = ROOT / "benchmarks" / "results"
RAW = FOLDER / "raw"


def save(folder: Path, part: str, found: dict[str, Any]) -> None:
    """Keep what a part found, and what it was found on."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"part": part, "machine": machine.described(), "found": rounded(found)}
    (folder / f"{part}.json").write_text(json.dumps(content, indent=1) + "\n")


def load(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what there is, by part."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def rounded(value: Any) -> Any:  # noqa: ANN401  # whatever JSON can say
    """Leave out digits that mean nothing."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each) for each in value]
    return value
