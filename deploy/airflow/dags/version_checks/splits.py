"""The values at which a version's answers jump, read out of its trees and bins: there a graph goes wrong first."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from version_checks.answers import table
from version_checks.estimators import columns_at, inside
from version_checks.fields import Field, NotConvertible, Row
from version_checks.trees.converters import sums
from version_checks.trees.ensemble import Array, Ensemble
from version_checks.trees.of_sklearn import widened

MOST = 2000
"""How many thresholds of a column are followed through the steps before the trees."""

STEPS = 90
"""Halvings until the neighbours of a jump are found, whatever the range."""

Places = Mapping[int, Array]
"""Values by column; a field with a width has a column for each of its numbers."""

Transform = Callable[[Any], Any]


@dataclass(frozen=True)
class Stage:
    """Something with thresholds, by the columns that it takes, and what makes these out of the version's own columns."""

    thresholds: Places
    before: Transform | None
    columns: Sequence[int]


def jumps(model: Any, fields: Sequence[Field], rows: Sequence[Row]) -> Places:  # noqa: ANN401  # any estimator
    """Values on both sides of jumps, in doubles, sorted.

    Args:
        model: the estimator.
        fields: what it takes.
        rows: some rows of it, which tell where to look.
    """
    width = fields[0].width or len(fields)
    found: dict[int, list[Array]] = {}
    for stage in _stages(model, [*range(width)], fields):
        if stage.before is None:
            for at, values in stage.thresholds.items():
                found.setdefault(stage.columns[at], []).append(_both_sides(values))
        elif rows and not fields[0].width:
            # What a step does with rows that were made up is its own affair: then nothing is known of its jumps.
            with contextlib.suppress(Exception):
                for field, values in _followed(stage.before, stage.thresholds, fields, rows):
                    found.setdefault(field, []).append(values)
    whole = {at: np.unique(np.concatenate(values)) for at, values in found.items()}
    return {at: values[np.isfinite(values)] for at, values in whole.items()}


def _both_sides(thresholds: Array) -> Array:
    return np.concatenate([np.nextafter(thresholds, -np.inf), thresholds, np.nextafter(thresholds, np.inf)])


def _stages(model: Any, columns: Sequence[int], fields: Sequence[Field], before: Transform | None = None) -> Iterator[Stage]:  # noqa: ANN401
    model = getattr(model, "best_estimator_", model)
    if getattr(model, "steps", None):
        for at, (_, step) in enumerate(model.steps):
            if step is not None and not isinstance(step, str):
                yield from _stages(step, columns, fields, _after(before, model[:at]) if at else before)
    elif getattr(model, "transformers_", None):
        names = [field.name for field in fields]
        for _, part, chosen in model.transformers_:
            if not isinstance(part, str):
                inside = columns_at(chosen, names)
                yield from _stages(part, inside, fields, _picked(inside) if getattr(part, "steps", None) else None)
    elif thresholds := _thresholds(model):
        yield Stage(thresholds, before, columns)


def _after(before: Transform | None, steps: Any) -> Transform:  # noqa: ANN401
    return lambda given: steps.transform(given if before is None else before(given))


def _picked(columns: Sequence[int]) -> Transform:
    return lambda given: given.iloc[:, list(columns)]


def _thresholds(model: Any) -> dict[int, Array]:  # noqa: ANN401
    """The thresholds of a step by its own columns: those of all trees in it, and of bins."""
    found: dict[int, list[Array]] = {}
    if hasattr(model, "bin_edges_"):
        for at, edges in enumerate(model.bin_edges_):
            found.setdefault(at, []).append(np.asarray(edges[1:-1], float))
    elif type(model).__name__ == "Binarizer":
        return {at: np.array([float(model.threshold)]) for at in range(int(model.n_features_in_))}
    else:
        for ensemble in _ensembles(model):
            for at, values in ensemble.splits():
                if ensemble.dtype is np.float32:
                    # Below a threshold of 32 bits lies what is rounded to its lower neighbour.
                    values = widened(np.nextafter(values.astype(np.float32), np.float32(-np.inf)))  # noqa: PLW2901
                found.setdefault(at, []).append(values)
    return {at: np.unique(np.concatenate(values)) for at, values in found.items()}


def _ensembles(model: Any) -> Iterator[Ensemble]:  # noqa: ANN401
    ensemble = None
    with contextlib.suppress(NotConvertible):
        ensemble = sums(model)
    if ensemble is not None:
        yield ensemble
        return
    for part in inside(model):
        yield from _ensembles(part)


def _followed(before: Transform, thresholds: Places, fields: Sequence[Field], rows: Sequence[Row]) -> Iterator[tuple[int, Array]]:
    """Where the version's own columns reach thresholds behind a transformation of them, found by halving."""

    def told(field: int, values: Sequence[Any]) -> Any:  # noqa: ANN401
        given = [[value if at == field else old for at, old in enumerate(rows[0])] for value in values]
        out = before(table(fields, given))
        return np.asarray(out.toarray() if hasattr(out, "toarray") else out, float)

    ends = {at: _ends([row[at] for row in rows], field) for at, field in enumerate(fields) if _moves(field)}
    moved = {at: told(at, between) for at, between in ends.items()}
    depends = np.array([(out != out[:1]).any(axis=0) for out in moved.values()])
    for at, changes in zip(ends, depends, strict=True):
        alone = changes & (depends.sum(axis=0) == 1)
        pairs = [(column, value) for column, values in thresholds.items() if alone[column] for value in _some(values)]
        if pairs:
            yield at, _halved(lambda values, at=at: told(at, values), pairs, ends[at], fields[at])  # type: ignore[misc]


def _moves(field: Field) -> bool:
    return field.numeric and field.kind != "boolean"


def _ends(values: Sequence[Any], field: Field) -> list[Any]:
    """Where to look: the range of some values, and as far again on both sides; the ends, and some values between."""
    seen = np.array([value for value in values if value is not None and np.isfinite(value)] or [0.0, 1.0])
    low, high = float(seen.min()), float(seen.max())
    span = max(high - low, abs(low) / 2, 1.0)
    found = np.linspace(low - span, high + span, 9)
    return [int(value) for value in np.rint(found)] if not field.fractional else found.tolist()


def _some(values: Array) -> Array:
    return values if len(values) <= MOST else values[np.linspace(0, len(values) - 1, MOST).astype(int)]


def _halved(told: Transform, pairs: Sequence[tuple[int, float]], ends: Sequence[Any], field: Field) -> Array:
    columns, limits = np.array([column for column, _ in pairs]), np.array([limit for _, limit in pairs])
    kind = float if field.fractional else np.int64
    low, high = np.full(len(pairs), ends[0], kind), np.full(len(pairs), ends[-1], kind)
    first, last = (told([end])[0] for end in (ends[0], ends[-1]))
    side = first[columns] <= limits
    crossing = side != (last[columns] <= limits)
    columns, limits, side, low, high = (each[crossing] for each in (columns, limits, side, low, high))
    if not len(columns):
        return np.array([])
    for _ in range(STEPS):
        middle = low + (high - low) // 2 if kind is np.int64 else low + (high - low) / 2
        open_ones = (middle > low) & (middle < high)
        if not open_ones.any():
            break
        same = (told(middle.tolist())[np.arange(len(columns)), columns] <= limits) == side
        low, high = np.where(open_ones & same, middle, low), np.where(open_ones & ~same, middle, high)
    return np.concatenate([low, high]).astype(float)
