"""The results page, written from whatever raw results there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import figures, results, sections
from benchmarks.figures import Bound, Figure

# In the order of the page: the part, its heading, and what writes it.
SECTIONS = (
    ("curve", "Predict beside the echo", sections.curve),
    ("open_loop", "An open loop at half the capacity", sections.open_loop),
    ("peers", "Other servers", sections.peers),
    ("batch", "Many rows a call", sections.batch),
    ("bentoml", "BentoML behind this door", sections.bentoml),
    ("swap", "Versions swapped under load", sections.swap),
    ("worker", "One worker", sections.worker),
    ("burst", "1,000 calls, 50 in flight", sections.goals),
    ("steady", "100 calls a second", sections.goals),
    ("costs", "What logs, metrics and traces cost", sections.costs),
    ("turns", "What long turns give", sections.turns),
    ("profile", "Where the time of a call goes", sections.profile),
)
NOTES = results.FOLDER / "notes.md"
INTRODUCTION = """# Results

Written by `make bench` from the raw results in [raw](raw); how they were measured, and how to check them, is in
[the method](../README.md). Times in milliseconds and rates say something about this machine alone: what counts are the ratios
within a run."""


def write(raw: Path) -> Path:
    """Write the page and its plots beside the folder of the raw results; gives the page."""
    found = results.load(raw)
    folder = raw.parent
    blocks = [INTRODUCTION, *_machine(found), "## Summary", _summary(found)]
    notes = _notes()
    for part, heading, section in SECTIONS:
        blocks.append(f"## {heading}")
        if part in found:
            blocks += section(found[part]["found"], folder)
            blocks += [notes[part]] if part in notes else []
        else:
            blocks.append("Not measured yet.")
    page = folder / "README.md"
    page.write_text("\n\n".join(blocks) + "\n")
    print(f"Written: {page}")
    return page


def _summary(found: Mapping[str, Any]) -> str:
    """Every figure beside its target."""
    targets = figures.bounds(figures.TARGETS)
    rows = [[figure.text, _value(figure.value), *_verdict(figure, targets)] for figure in figures.all_of(found)]
    return sections.table(["figure", "measured", "target", ""], rows)


def _verdict(figure: Figure, targets: Mapping[str, Bound]) -> list[str]:
    target = targets.get(figure.key)
    if target is None:
        return ["", ""]
    return [str(target), "met" if target.meets(figure.value) else "**missed**"]


def _value(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004


def _machine(found: Mapping[str, Any]) -> list[str]:
    """What it was measured on; the parts may have been measured at different times."""
    if not found:
        return []
    newest = max((content["machine"] for content in found.values()), key=lambda machine: str(machine["date"]))
    rows = [
        ["processor", f"{newest['processor']}, {newest['cores']} cores, {newest['memory_gib']} GiB"],
        ["cores", f"the server {newest['server_cores']}, ghz, Valkey and all else {newest['load_cores']}"],
        ["system", f"Linux {newest['kernel']}, Python {newest['python']}, ghz {newest['ghz']}"],
        ["versions", ", ".join(f"{name} {version}" for name, version in newest["versions"].items())],
    ]
    measured = ", ".join(f"{part} {_when(content['machine'])}" for part, content in found.items())
    return [sections.table(["", ""], rows), f"Measured (UTC, commit; `+` is a tree with changes): {measured}."]


def _when(machine: Mapping[str, Any]) -> str:
    return f"{str(machine['date'])[:16]} {machine['commit']}"


def _notes() -> dict[str, str]:
    """What a person wrote about the results, by part: paragraphs under `## part` in notes.md."""
    if not NOTES.exists():
        return {}
    found = {}
    for block in NOTES.read_text().split("\n## ")[1:]:
        part, _, text = block.partition("\n")
        found[part.strip()] = text.strip()
    return found
